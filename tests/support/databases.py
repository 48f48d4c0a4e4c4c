"""Databases for tests: clones of a template that is migrated once for each set of migrations."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from app.db.engine import create_engine
from app.db.migrating import upgrade
from app.db.url import normalise_url
from app.runtime import Runtime
from app.settings import Settings
from tests.support.processes import PATIENCE

TEMPLATE_LOCK = 0x7E57


def template_name() -> str:
    """A name that changes with every migration, and with the scopes that ship."""
    digest = hashlib.sha256()
    for path in sorted(Path("migrations").rglob("*.py")) + [Path("app/access/scopes.py")]:
        digest.update(path.read_bytes())
    return f"scopegate_template_{digest.hexdigest()[:12]}"


def database_url(server_url: str, database: str) -> str:
    """The URL of one database on that server."""
    return make_url(server_url).set(database=database).render_as_string(hide_password=False)


async def make_template(server_url: str) -> None:
    """See to it that the template is there; several workers may call at once."""
    name = template_name()
    async with administering(server_url) as connection:
        await connection.execute(text(f"SELECT pg_advisory_lock({TEMPLATE_LOCK})"))
        known = text("SELECT 1 FROM pg_database WHERE datname = :name AND NOT datallowconn")
        if await connection.scalar(known, {"name": name}):
            return
        await connection.execute(text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
        await connection.execute(text(f'CREATE DATABASE "{name}"'))
        engine = create_engine(normalise_url(database_url(server_url, name)), Settings())
        await upgrade(engine)
        await engine.dispose()
        await connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'))


async def clone_template(server_url: str) -> str:
    """The name of a new database, migrated and otherwise empty."""
    return await _create(server_url, template_name())


async def create_empty(server_url: str) -> str:
    """The name of a new database that was never migrated."""
    return await _create(server_url, "template0")


async def drop(server_url: str, name: str) -> None:
    """Remove a database, whoever is still connected."""
    async with administering(server_url) as connection:
        await connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))


@asynccontextmanager
async def closed(server_url: str, name: str) -> AsyncIterator[None]:
    """The database takes no connections meanwhile, and those that were open are cut."""
    async with administering(server_url) as connection:
        await connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'))
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        await connection.execute(text(cut), {"name": name})
        try:
            yield
        finally:
            await connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'))


async def wait_for_lock(runtime: Runtime) -> None:
    """Return when some transaction in the runtime's database waits for another's lock."""
    waiting = text(
        "SELECT EXISTS (SELECT FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock')"
    )
    async with asyncio.timeout(PATIENCE):
        while True:
            async with runtime.sessions() as session:
                if await session.scalar(waiting):
                    return
            await asyncio.sleep(0.01)


async def _create(server_url: str, template: str) -> str:
    name = f"scopegate_test_{uuid.uuid4().hex[:16]}"
    async with administering(server_url) as connection:
        await connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    return name


@asynccontextmanager
async def administering(server_url: str) -> AsyncIterator[AsyncConnection]:
    """A connection for statements that can't be in a transaction."""
    engine = create_async_engine(
        normalise_url(server_url), poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()
