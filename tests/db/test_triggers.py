"""Triggers that are off, gone or altered are noticed: then nothing remembered is trusted."""

import asyncio
import os
import subprocess

import asyncpg
import httpx2
import pytest
from sqlalchemy import text

from app.db.changes import EVERYTHING, Change
from app.db.migrating import restore
from app.db.triggers import DEFINITIONS
from app.runtime import Runtime
from tests.conftest import client_of, following, settings_for
from tests.generated_triggers import definitions_of
from tests.support.factories import bearer, make_user
from tests.support.feeds import BOUND, feed_of, heard_by, url_of
from tests.support.postgres_programs import libpq_url, on_path
from tests.support.processes import PATIENCE, until
from tests.support.statements import execute

EMPTY = """
CREATE FUNCTION do_nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE OR REPLACE TRIGGER grants_notify_insert AFTER INSERT OR UPDATE OR DELETE ON grants
    FOR EACH ROW EXECUTE FUNCTION do_nothing();
ALTER TABLE grants ENABLE ALWAYS TRIGGER grants_notify_insert
"""
HOLLOW = """
CREATE OR REPLACE FUNCTION scopegate_notify_row() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END'
"""
NEVER = """
CREATE OR REPLACE TRIGGER sessions_notify_update AFTER UPDATE ON sessions
    FOR EACH ROW WHEN (false) EXECUTE FUNCTION scopegate_notify_row('session', 'id');
ALTER TABLE sessions ENABLE ALWAYS TRIGGER sessions_notify_update
"""
BROKEN = {
    "ALTER TABLE grants DISABLE TRIGGER ALL": "grants.grants_notify_insert is off",
    # What pg_restore --disable-triggers does last.
    "ALTER TABLE grants DISABLE TRIGGER ALL; ALTER TABLE grants ENABLE TRIGGER ALL": "is off or",
    "DROP TRIGGER grants_notify_insert ON grants": "grants.grants_notify_insert is missing",
    "DROP FUNCTION scopegate_notify_row CASCADE": "users.users_notify_update is missing",
    # Missing; or, at the very moment of the change, there under its old name and altered.
    "ALTER TRIGGER grants_notify_insert ON grants RENAME TO x": "grants.grants_notify_insert is ",
    EMPTY: "not as it was migrated",
    HOLLOW: "not as it was migrated",
    NEVER: "not as it was migrated",
}


async def test_the_definitions_are_those_of_a_database_that_was_just_migrated(
    own_database_url: str,
) -> None:
    """`python -m tests.generated_triggers` writes them anew."""
    connection = await asyncpg.connect(libpq_url(own_database_url))
    assert await definitions_of(connection) == DEFINITIONS.read_text()
    await connection.close()


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_trigger_that_is_off_gone_or_altered_is_noticed_and_put_back(
    own_database_url: str, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    settings = settings_for(own_database_url, revocation_bound=BOUND)
    async with (
        Runtime.open(settings) as runtime,
        following(runtime),
        client_of(runtime) as client,
    ):
        token = await bearer(client, await make_user(runtime, "read:items"))
        await until_status(client, token, 200)
        await execute_all(runtime, broken)
        await execute_all(runtime, "DELETE FROM grants")
        await until_status(client, token, 403)
        await until(lambda: runtime.feed.triggers and runtime.feed.triggers.wrong)
        assert not runtime.feed.fresh()
        assert (await client.get("/health/ready")).json()["checks"] == "database"
        assert caplog.text.count("run scopegate migrate") == 1
        assert BROKEN[broken] in caplog.text
        await restore(runtime.engine)
        await until(runtime.feed.fresh)
        assert runtime.feed.triggers
        assert not runtime.feed.triggers.wrong


async def test_what_changed_between_two_looks_while_a_trigger_was_off_is_heard(
    own_runtime: Runtime,
) -> None:
    """One transaction, as a bulk load does it: no look ever sees the trigger off."""
    feed = feed_of(url_of(own_runtime), bound=BOUND)
    async with heard_by(feed) as heard:
        async with own_runtime.engine.begin() as connection:
            for statement in (
                "ALTER TABLE grants DISABLE TRIGGER ALL",
                "DELETE FROM grants",
                "ALTER TABLE grants ENABLE TRIGGER ALL",
                "ALTER TABLE grants ENABLE ALWAYS TRIGGER grants_notify_insert",
                "ALTER TABLE grants ENABLE ALWAYS TRIGGER grants_notify_truncate",
            ):
                await connection.execute(text(statement))
        await until(lambda: heard == [EVERYTHING])


async def test_a_table_that_is_restored_from_a_dump_under_a_live_replica_is_heard(
    own_runtime: Runtime,
) -> None:
    url = libpq_url(url_of(own_runtime))
    dump = run("pg_dump", "--clean", "--table=grants", url)
    feed = feed_of(url_of(own_runtime), bound=BOUND)
    async with heard_by(feed) as heard:
        run("psql", "--quiet", "--set=ON_ERROR_STOP=1", url, stdin=dump)
        await until(lambda: EVERYTHING in heard)
        await until(feed.fresh)


async def test_the_triggers_of_a_later_version_will_do_if_they_are_enabled(
    own_runtime: Runtime,
) -> None:
    """While replicas are upgraded one by one, the old ones serve on."""
    feed = feed_of(url_of(own_runtime), bound=BOUND)
    async with heard_by(feed) as heard:
        async with own_runtime.engine.begin() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
            await connection.execute(text(HOLLOW))
        await until(lambda: EVERYTHING in heard)
        assert feed.triggers
        assert not feed.triggers.wrong
        await until(feed.fresh)
        await execute(own_runtime, "ALTER TABLE scopes DISABLE TRIGGER scopes_notify_insert")
        await until(lambda: feed.triggers and feed.triggers.wrong)
        assert not feed.fresh()


async def test_a_trigger_of_the_operators_own_is_none_of_our_business(own_runtime: Runtime) -> None:
    feed = feed_of(url_of(own_runtime), bound=BOUND)
    async with heard_by(feed) as heard:
        await execute_all(own_runtime, EMPTY.replace("grants_notify_insert", "of_their_own"))
        await execute(own_runtime, "UPDATE signing_keys SET algorithm = algorithm")
        await until(lambda: heard == [Change("keys")])
        assert feed.triggers
        assert not feed.triggers.wrong


async def execute_all(runtime: Runtime, script: str) -> None:
    """Several statements at once, as psql sends them."""
    connection = await asyncpg.connect(libpq_url(url_of(runtime)))
    await connection.execute(script)
    await connection.close()


async def until_status(client: httpx2.AsyncClient, token: dict[str, str], code: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await client.get("/items", headers=token)).status_code != code:
            await asyncio.sleep(0.01)


def run(*command: str, stdin: str = "") -> str:
    done = subprocess.run(
        command, env=on_path(os.environ), input=stdin, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
