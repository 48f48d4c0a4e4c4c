"""What an error means to an operator, and the wait for a database at start-up."""

import time
import traceback
from collections.abc import Callable

import typer
from pydantic import ValidationError
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from app.cli.console import problem_with_settings
from app.db.engine import DATABASE_GONE, STATEMENT_LOST, TAKES_NO_WRITES, sqlstate_of
from app.db.servers import TakesNoWrites
from app.errors import ScopegateError, first_line

SILENT = (OSError, TimeoutError, OperationalError, InterfaceError)
IN_RECOVERY = "55000"
"""The SQLSTATE of a function that a standby refuses, such as `pg_current_wal_lsn`."""
PASSES = ("08", "53", "57")
"""SQLSTATE classes of errors that pass by themselves: connections, resources, start and stop."""
AGAIN = 0.5
"""Seconds between two attempts to start."""


def problem_of(error: Exception) -> str | None:
    """Return in one line what an operator can mend; None where the fault is ours."""
    match error:
        case ValidationError():
            return problem_with_settings(error)
        case ScopegateError():
            return str(error)
        case OSError() if _of_output(error):
            return f"the output can't be written: {error.strerror}"
        case OSError(filename=str()):
            return f"{error.filename} can't be used: {error.strerror}"
    return explain(error) if isinstance(error, (*DATABASE_GONE, SQLAlchemyError)) else None


def explain(error: Exception) -> str:
    """Return what the database's error means, and what to do, in one line."""
    if _from_standby(error):
        return str(TakesNoWrites())
    if sqlstate_of(error) in STATEMENT_LOST:
        return (
            "SCOPEGATE_DATABASE_URL leads to a pooler: set SCOPEGATE_LISTEN_DATABASE_URL to a "
            "URL that leads directly to Postgres"
        )
    answers = "does not answer" if _may_pass(error) else "refuses"
    return f"the database {answers}: {first_line(error)}"


def wait_for_database(start: Callable[[], None], *, seconds: float) -> None:
    """Call `start` until it succeeds, and print the reason for waiting.

    Raises what `start` raised: at once if waiting can't help, else after `seconds`.
    """
    deadline, said = time.monotonic() + seconds, ""
    while True:
        try:
            return start()
        except DATABASE_GONE + SILENT as error:
            if not _may_pass(error) or time.monotonic() >= deadline:
                raise
            reason = explain(error)
        if reason != said:
            typer.echo(f"scopegate: waiting up to {seconds:g} s: {reason}", err=True)
            said = reason
        time.sleep(min(AGAIN, max(0, deadline - time.monotonic())))


def _of_output(error: OSError) -> bool:
    """Whether it was raised by printing. By its number alone it could be the database's."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code is typer.echo.__code__ for frame, _ in frames)


def _may_pass(error: Exception) -> bool:
    """Whether the database may answer later although it does not now."""
    state = sqlstate_of(error)
    silent = not state and isinstance(error, DATABASE_GONE + SILENT)
    return silent or state[:2] in PASSES or _from_standby(error)


def _from_standby(error: Exception) -> bool:
    return isinstance(error, TakesNoWrites) or sqlstate_of(error) in {TAKES_NO_WRITES, IN_RECOVERY}
