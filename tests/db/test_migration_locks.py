"""What each migration locks: requests go on while it waits for that.

A migration that fails here lacks `op.execute(lock_tables(…))` at its begin, with the tables that it
alters, refers to by a foreign key, or gives triggers or indexes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import open_engine
from app.db.migrating import CannotMigrate, migrator_settings, restore, upgrade, upgrade_within
from app.db.schema import head_revision, migrations
from app.db.triggers import restore_triggers
from tests.conftest import settings_for
from tests.support.postgres_programs import libpq_url
from tests.support.processes import PATIENCE

BEFORE = {revision: before[0] for revision, before in migrations().items() if before}
WEAK = ["AccessShareLock", "RowShareLock", "RowExclusiveLock"]
"""What queries and writes take; the other modes keep writes out."""


async def locked_by(engine: AsyncEngine, revision: str) -> dict[str, bool]:
    """The tables that were there before, and that the migration locks: against reads too?"""
    tables = text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    held = text(
        "SELECT relation::regclass::text, bool_or(mode = 'AccessExclusiveLock') FROM pg_locks "
        "WHERE pid = pg_backend_pid() AND locktype = 'relation' AND mode <> ALL (:weak) "
        "GROUP BY 1 ORDER BY 1"
    )
    async with engine.connect() as connection:
        existed = set(await connection.scalars(tables))
        await connection.run_sync(upgrade_within, revision)
        rows = await connection.execute(held, {"weak": WEAK})
        return {table: alone for table, alone in rows if table in existed}


@asynccontextmanager
async def migrating(
    engine: AsyncEngine, change: Callable[[Connection], None], observer: asyncpg.Connection
) -> AsyncIterator[None]:
    """What waits for a lock here, and succeeds once the block has ended; then undone."""
    async with engine.connect() as connection:
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
        task = asyncio.create_task(connection.run_sync(change))
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
        to_revision = partial(upgrade_within, revision=revision)
        locked = await locked_by(engine, revision)
        tables = list(locked)
        for table, alone in locked.items():
            # A request that has written or read one table needs all of them now.
            for mode in ["ROW EXCLUSIVE", *(["ACCESS SHARE"] if alone else [])]:
                await request.execute("BEGIN")
                await lock(request, [table], mode)
                async with migrating(engine, to_revision, observer):
                    await lock(request, tables, "ROW EXCLUSIVE")
                    await request.execute("COMMIT")
            # VACUUM works on the table, and requests write it as always.
            await vacuum.execute(f"BEGIN; LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE")
            async with migrating(engine, to_revision, observer):
                await request.execute("BEGIN; SET LOCAL lock_timeout = '100ms'")
                await lock(request, tables, "ROW EXCLUSIVE")
                await request.execute("COMMIT")
                await vacuum.execute("COMMIT")
    for connection in (request, vacuum, observer):
        await connection.close()


async def test_requests_go_on_while_triggers_are_put_back(own_database_url: str) -> None:
    url = libpq_url(own_database_url)
    tables = ["users", "sessions"]
    request = await asyncpg.connect(url, server_settings={"lock_timeout": "900ms"})
    observer = await asyncpg.connect(url)
    for table in tables:
        await request.execute(f"ALTER TABLE {table} DISABLE TRIGGER {table}_notify_update")

    async with open_engine(migrator_settings(settings_for(own_database_url))) as engine:
        for first in tables:
            await request.execute(f"BEGIN; LOCK TABLE {first} IN ROW EXCLUSIVE MODE")
            async with migrating(engine, restore_triggers, observer):
                await lock(request, tables, "ROW EXCLUSIVE")
                await request.execute("COMMIT")
        # What works there for long is not waited for longer than a migration would.
        await request.execute("BEGIN; LOCK TABLE users IN SHARE UPDATE EXCLUSIVE MODE")
        with pytest.raises(CannotMigrate, match=r"^sessions, users: VACUUM"):
            await asyncio.wait_for(restore(engine), PATIENCE)
    for each in (request, observer):
        await each.close()


def test_the_last_migration_is_among_those_that_are_tried() -> None:
    assert head_revision() in BEFORE
