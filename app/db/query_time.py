"""How long a task has waited for the database."""

import time
from contextvars import ContextVar
from typing import Any, Self

from sqlalchemy import Engine, event


class QueryTimer:
    """Adds up the statements of a `with` block, and of the tasks that it starts, in `seconds`.

    Without the wait for a connection, and without commits.
    """

    __slots__ = ("_token", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._token = _spent.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _spent.reset(self._token)


_spent: ContextVar[QueryTimer | None] = ContextVar("spent", default=None)


def add_up_statements(engine: Engine) -> None:
    """Add up the time of each statement that the engine executes."""

    @event.listens_for(engine, "before_cursor_execute")
    def begin(_conn: Any, _cursor: Any, _sql: str, _values: Any, context: Any, _many: bool) -> None:
        context.began = time.perf_counter()

    @event.listens_for(engine, "after_cursor_execute")
    def end(_conn: Any, _cursor: Any, _sql: str, _values: Any, context: Any, _many: bool) -> None:
        if spent := _spent.get():
            spent.seconds += time.perf_counter() - context.began
