"""The way to Postgres: the URL as people give it, the engine, and who owns the server."""

import asyncio
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from pydantic import SecretStr
from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.db.embedded import EmbeddedPostgres
from app.errors import ConfigurationError
from app.settings import Settings

# What libpq understands and asyncpg spells otherwise, or does without.
LIBPQ_ONLY = {"channel_binding", "gssencmode"}
UNDERSTOOD = {"host", "port", "ssl", "target_session_attrs", "prepared_statement_cache_size"}

CLOSE_TIMEOUT = 1.0
"""Seconds in which a connection is closed politely; past it, at once."""

DATABASE_GONE = (
    OSError,
    TimeoutError,
    PoolTimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What is raised when the database can't be asked, beside SQLAlchemy's DBAPIError."""


def normalise_url(
    given: str, password: str | None = None, *, setting: str = "SCOPEGATE_DATABASE_URL"
) -> URL:
    """A URL as hosted Postgres hands it out, made fit for asyncpg.

    Raises ConfigurationError, without repeating the URL: it may hold a password.
    """
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            f"{setting} is no URL: write postgresql://user:password@host/name"
        ) from None
    if url.get_backend_name() not in {"postgres", "postgresql"}:
        raise ConfigurationError(
            f"{setting} must name Postgres: postgresql://user:password@host/name"
        )
    query = {name: value for name, value in url.query.items() if name not in LIBPQ_ONLY}
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    if unknown := sorted(query.keys() - UNDERSTOOD):
        raise ConfigurationError(
            f"{setting} has options that are not understood: {', '.join(unknown)}"
        )
    url = url.set(drivername="postgresql+asyncpg", query=query)
    return url.set(password=password) if password and not url.password else url


def configured_url(given: SecretStr, settings: Settings, *, setting: str) -> URL:
    """A URL out of the settings, with the password that has a setting of its own."""
    password = settings.database_password
    return normalise_url(
        given.get_secret_value(),
        password.get_secret_value() if password else None,
        setting=setting,
    )


def create_engine(url: URL, settings: Settings) -> AsyncEngine:
    """An engine whose every wait is bounded, so that a lost database is noticed, not waited for."""
    return create_async_engine(
        url,
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=settings.database_pool_timeout,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args=_connect_args(settings, application_name="scopegate"),
    )


async def connect_apart(url: URL, settings: Settings) -> Any:
    """A connection of asyncpg's own that no pool knows: a pool would make it forget its LISTEN."""
    _, where = url.get_dialect()().create_connect_args(url)
    where.pop("prepared_statement_cache_size", None)
    return await asyncpg.connect(
        **where,
        **_connect_args(settings, application_name="scopegate changes"),
        # A pooler may give the next statement to another server, which has not prepared it.
        statement_cache_size=0,
    )


def _connect_args(settings: Settings, *, application_name: str) -> dict[str, Any]:
    return {
        "timeout": settings.database_connect_timeout,
        "command_timeout": settings.database_statement_timeout,
        "server_settings": {"application_name": application_name, "timezone": "UTC"},
    }


@asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
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
    engine = create_engine(url, settings)
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
