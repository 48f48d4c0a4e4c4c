"""The SQL that a runtime runs, seen as it goes to the driver, and SQL beside it."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event, text

from app.runtime import Runtime


@contextmanager
def statements_of(runtime: Runtime) -> Iterator[list[str]]:
    """What is run meanwhile, savepoints and all."""
    run: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        run.append(statement)

    event.listen(runtime.engine.sync_engine, "before_cursor_execute", note)
    yield run
    event.remove(runtime.engine.sync_engine, "before_cursor_execute", note)


async def execute(runtime: Runtime, statement: str, **values: object) -> None:
    """What somebody with psql does: our code hears of it only from the database."""
    async with runtime.engine.begin() as connection:
        await connection.execute(text(statement), values)
