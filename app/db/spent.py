"""How long the database was waited for, by whoever wants to know."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, event


@dataclass(slots=True)
class Spent:
    """Seconds in statements: without waiting for a connection, and without commits."""

    seconds: float = 0.0


_spent: ContextVar[Spent | None] = ContextVar("spent", default=None)


@contextmanager
def time_spent() -> Iterator[Spent]:
    """Adds up the statements of the block, and of the tasks that it starts."""
    spent = Spent()
    token = _spent.set(spent)
    try:
        yield spent
    finally:
        _spent.reset(token)


def add_up_statements(engine: Engine) -> None:
    """Tell whoever counts of each statement that the engine executes."""

    @event.listens_for(engine, "before_cursor_execute")
    def begin(*args: Any) -> None:
        args[4].began = time.perf_counter()

    @event.listens_for(engine, "after_cursor_execute")
    def end(*args: Any) -> None:
        if spent := _spent.get():
            spent.seconds += time.perf_counter() - args[4].began
