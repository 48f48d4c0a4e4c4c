"""The way to Postgres: the engine, and who owns the server."""

import asyncio
import itertools
import random
import secrets
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import URL, Engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import await_only

from app.db.clock import monotonic
from app.db.embedded import EmbeddedPostgres
from app.db.primary import LONGEST_LIFE, Primary
from app.db.query_time import add_up_statements
from app.db.url import configured_url, options_of
from app.settings import Settings

CLOSE_TIMEOUT = 1.0
"""Seconds in which a connection is closed politely; past it, at once."""

TRUSTED_FOR = 1.0
"""Seconds after its last use in which a connection is not asked whether it still leads anywhere.

SQLAlchemy's pre-ping asks each time, in three round trips: a third of all that a login took.
"""

PING = "SELECT"
PING_TIMEOUT = 2.0
"""Seconds in which a connection that is asked must answer."""

DATABASE_GONE = (
    OSError,
    TimeoutError,
    PoolTimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What is raised when the database can't be asked, beside SQLAlchemy's DBAPIError."""

TAKES_NO_WRITES = "25006"
"""The SQLSTATE of a write to a standby, or to a primary that has become one."""

STATEMENT_LOST = {"26000", "42P05"}
"""SQLSTATEs: a prepared statement is not where it was prepared, as a pooler is in between."""


def sqlstate_of(error: BaseException) -> str:
    """The SQLSTATE of an error by asyncpg or SQLAlchemy; empty when Postgres did not send it."""
    return str(getattr(getattr(error, "orig", error), "sqlstate", None) or "")


def create_engine(url: URL, settings: Settings, primary: Primary | None = None) -> AsyncEngine:
    """An engine whose every wait is bounded, so that a lost database is noticed, not waited for.

    Its connections lead to `primary`, and are dropped when they do not lead there any more.
    """
    primary = primary or Primary()
    engine = create_async_engine(
        url,
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=settings.database_pool_timeout.total_seconds(),
        # Each process at its own time.
        pool_recycle=round(random.uniform(0.8, 1) * LONGEST_LIFE),  # noqa: S311
        hide_parameters=True,
        connect_args={
            **_connect_args(url, settings),
            **(_unprepared() if settings.listen_database_url else _prepared()),
            "async_creator_fn": primary.connect,
        },
    )

    _give_up_lost_connections(engine.sync_engine, primary)
    add_up_statements(engine.sync_engine)
    return engine


def _give_up_lost_connections(engine: Engine, primary: Primary) -> None:
    """Have the pool hand out no connection that leads nowhere, or not where it must."""

    @event.listens_for(engine, "checkin")
    def note_when(_connection: object, record: ConnectionPoolEntry) -> None:
        record.info["used_at"] = monotonic()

    @event.listens_for(engine, "checkout")
    def refuse_a_lost_server(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
        # A new one was looked at just now. The pool gives up where two in a row are refused.
        if "used_at" not in record.info:
            return
        # Here the pool makes a new one.
        driver = connection.driver_connection
        if primary.leads_elsewhere(driver):
            raise DisconnectionError
        if driver.is_closed():
            raise InvalidatePoolError
        if monotonic() - record.info["used_at"] > TRUSTED_FOR:
            try:
                # In one message: a pooler can't give half of it to another server.
                await_only(driver.execute(PING, timeout=PING_TIMEOUT))
            except DATABASE_GONE:
                raise InvalidatePoolError from None

    @event.listens_for(engine, "handle_error")
    def drop_broken_connections(context: ExceptionContext) -> None:
        """Drop the connection and all older ones of the pool: they lead to the same server."""
        error = context.original_exception
        if sqlstate_of(error) == TAKES_NO_WRITES or isinstance(error, TimeoutError):
            context.is_disconnect = context.invalidate_pool_on_disconnect = True

    @event.listens_for(engine, "close")
    def terminate(connection: Any, _record: object) -> None:
        # What the pool gives up may never answer a goodbye.
        connection.driver_connection.terminate()


def _prepared() -> dict[str, Any]:
    """Statements are prepared once a connection, which halves the time that a short one takes.

    The names are unique to this process. A pooler that no setting declares may give us a server
    connection on which another process prepared its statements. Then our name is not found, instead
    of their statement being executed.
    """
    process, numbers = secrets.token_hex(8), itertools.count()
    return {"prepared_statement_name_func": lambda: f"scopegate_{process}_{next(numbers)}"}


def _unprepared() -> dict[str, Any]:
    """Every statement is parsed where it is executed: a pooler changes the server in between.

    Not within a transaction. Outside of one a statement is parsed and executed in one go.
    """
    return {
        "prepared_statement_name_func": lambda: "",
        "prepared_statement_cache_size": 0,
    }


async def connect_apart(
    url: URL, settings: Settings, way: Callable[..., Awaitable[Any]], *, purpose: str
) -> Any:
    """Return a raw asyncpg connection outside the pool, opened by `way`: a method of Primary.

    The pool would reset its LISTEN. Postgres shows `purpose` behind the application's name.
    """
    _, where = url.get_dialect()().create_connect_args(url)
    how = {**where, **_connect_args(url, settings, purpose=purpose)}
    return await way(**how)


def _connect_args(url: URL, settings: Settings, *, purpose: str = "") -> dict[str, Any]:
    name = options_of(url).get("application_name", "scopegate")
    return {
        "timeout": float(
            str(url.query.get("timeout", settings.database_connect_timeout.total_seconds()))
        ),
        "command_timeout": settings.database_statement_timeout.total_seconds(),
        "server_settings": {"application_name": name + purpose, "timezone": "UTC"},
        # asyncpg's own, beside SQLAlchemy's. A pooler may give the next statement to another
        # server, which has not prepared it.
        "statement_cache_size": 0,
    }


@asynccontextmanager
async def open_engine(
    settings: Settings, primary: Primary | None = None
) -> AsyncIterator[AsyncEngine]:
    """The engine for these settings; without a database URL, on the embedded Postgres.

    Closes its connections at the end, and lets go of the embedded server last. A database that
    does not answer is not waited for.
    """
    embedded: EmbeddedPostgres | None = None
    if settings.database_url is None:
        embedded = await asyncio.to_thread(EmbeddedPostgres.start, settings.home)
        url = make_url(embedded.url)
    else:
        url = configured_url(settings.database_url, settings, setting="SCOPEGATE_DATABASE_URL")
    engine = create_engine(url, settings, primary)
    opened: weakref.WeakSet[Any] = weakref.WeakSet()

    @event.listens_for(engine.sync_engine, "connect")
    def note(connection: Any, _: object) -> None:
        opened.add(connection.driver_connection)

    try:
        yield engine
    finally:
        # Here, and all together: dispose() would wait for each as long as for a statement.
        closing = [connection.close(timeout=CLOSE_TIMEOUT) for connection in opened]
        await asyncio.gather(*closing, return_exceptions=True)
        await engine.dispose()
        if embedded:
            await asyncio.to_thread(embedded.release)
