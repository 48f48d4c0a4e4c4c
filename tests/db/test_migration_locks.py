"""What each migration locks: requests go on while it waits for that.

A migration that fails here lacks `op.execute(lock_tables(…))` at its begin, with the tables that it
alters, refers to by a foreign key, or gives triggers or indexes.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest
from alembic import command
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.db.engine import open_engine
from app.db.migrating import alembic_config, migrator_settings, upgrade
from app.db.schema import head_revision, migrations
from tests.conftest import settings_for
from tests.support.postgres_programs import libpq_url
from tests.support.processes import PATIENCE

BEFORE = {revision: before[0] for revision, before in migrations().items() if before}
WEAK = ["AccessShareLock", "RowShareLock", "RowExclusiveLock"]
"""What queries and writes take; the other modes keep writes out."""


async def run(connection: AsyncConnection, revision: str) -> None:
    """Bring this connection's transaction to the revision; it is not committed."""

    def go(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    await connection.run_sync(go)


async def locked_by(engine: AsyncEngine, revision: str) -> list[str]:
    """The tables that were there before, and that the migration locks against writes."""
    tables = text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    held = text(
        "SELECT DISTINCT relation::regclass::text FROM pg_locks WHERE pid = pg_backend_pid() "
        "AND locktype = 'relation' AND mode <> ALL (:weak)"
    )
    async with engine.connect() as connection:
        existed = set(await connection.scalars(tables))
        await run(connection, revision)
        return sorted(existed & set(await connection.scalars(held, {"weak": WEAK})))


@asynccontextmanager
async def migrating(
    engine: AsyncEngine, revision: str, observer: asyncpg.Connection
) -> AsyncIterator[None]:
    """A migration that waits for a lock, and succeeds once the block has ended; then undone."""
    async with engine.connect() as connection:
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
        task = asyncio.create_task(run(connection, revision))
        waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted)"
        async with asyncio.timeout(PATIENCE):
            while not await observer.fetchval(waits, pid):
                assert not task.done()
        try:
            yield
        except BaseException:
            await observer.execute("SELECT pg_terminate_backend($1)", pid)
            await asyncio.wait([task])
            raise
        await asyncio.wait_for(task, PATIENCE)


async def lock(connection: asyncpg.Connection, tables: Sequence[str], mode: str) -> None:
    for table in tables:
        await connection.execute(f"LOCK TABLE {table} IN {mode} MODE")


@pytest.mark.parametrize("revision", sorted(BEFORE))
async def test_requests_go_on_while_a_migration_waits_for_their_tables(
    empty_database_url: str, revision: str
) -> None:
    url = libpq_url(empty_database_url)
    request = await asyncpg.connect(url, server_settings={"lock_timeout": "900ms"})
    vacuum = await asyncpg.connect(url)
    observer = await asyncpg.connect(url)
    async with open_engine(migrator_settings(settings_for(empty_database_url))) as engine:
        await upgrade(engine, BEFORE[revision])
        tables = await locked_by(engine, revision)
        for table in tables:
            # A request that has written one table needs the others now.
            await request.execute("BEGIN")
            await lock(request, [table], "ROW EXCLUSIVE")
            async with migrating(engine, revision, observer):
                await lock(request, tables, "ROW EXCLUSIVE")
                await request.execute("COMMIT")
            # VACUUM works on the table, and requests write it as always.
            await vacuum.execute(f"BEGIN; LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE")
            async with migrating(engine, revision, observer):
                await request.execute("BEGIN; SET LOCAL lock_timeout = '100ms'")
                await lock(request, tables, "ROW EXCLUSIVE")
                await request.execute("COMMIT")
                await vacuum.execute("COMMIT")
    for connection in (request, vacuum, observer):
        await connection.close()


def test_the_last_migration_is_among_those_that_are_tried() -> None:
    assert head_revision() in BEFORE
