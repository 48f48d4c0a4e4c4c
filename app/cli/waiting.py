"""What a database error means to an operator, and the wait for a database at start-up."""

import time
from collections.abc import Callable

import typer
from sqlalchemy.exc import InterfaceError, OperationalError

from app.db.engine import DATABASE_GONE, STATEMENT_LOST, TAKES_NO_WRITES, sqlstate_of
from app.db.servers import TakesNoWrites
from app.errors import first_line

SILENT = (OSError, TimeoutError, OperationalError, InterfaceError)
IN_RECOVERY = "55000"
"""The SQLSTATE of a function that a standby refuses, such as `pg_current_wal_lsn`."""
PASSES = ("08", "53", "57")
"""SQLSTATE classes of errors that pass by themselves: connections, resources, start and stop."""
AGAIN = 0.5
"""Seconds between two attempts to start."""


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


def _may_pass(error: Exception) -> bool:
    """Whether the database may answer later although it does not now."""
    state = sqlstate_of(error)
    silent = not state and isinstance(error, DATABASE_GONE + SILENT)
    return silent or state[:2] in PASSES or _from_standby(error)


def _from_standby(error: Exception) -> bool:
    return isinstance(error, TakesNoWrites) or sqlstate_of(error) in {TAKES_NO_WRITES, IN_RECOVERY}
