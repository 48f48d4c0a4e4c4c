"""Migration 0016: names go out of the older entries of the audit log, and never come in again."""

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from app.db.engine import create_engine
from app.db.migrating import upgrade
from app.db.url import normalise_url
from tests.conftest import settings_for
from tests.support.leftovers import dump_of
from tests.support.postgres_programs import libpq_url

BEFORE = "0015"
ADD = "INSERT INTO audit_entries (id, at, action, subject, detail) VALUES ($1, $2, $3, $4, $5)"
NAME = "Mirabella"
OLD: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("user.created", {"username": NAME, "kind": "person"}, {"kind": "person"}),
    (
        "user.created",
        {"username": NAME, "kind": "service", "operator": "root@here"},
        {"kind": "service", "operator": "root@here"},
    ),
    ("user.changed", {"username": "Mira", "was": NAME}, {"changed": "username"}),
    (
        "grant.made",
        {"scope": "admin", "expires_at": None, "reason": f"{NAME} is on call"},
        {"scope": "admin", "expires_at": None},
    ),
    (
        "grant.made",
        {"scope": "admin", "expires_at": None, "reason": None},
        {"scope": "admin", "expires_at": None, "reason": None},
    ),
    ("session.ended", {"reason": "user disabled"}, {"reason": "user disabled"}),
    ("login.failed", {"reason": "unknown user"}, {"reason": "unknown user"}),
    ("client.created", {"client_id": "a", "name": "App"}, {"client_id": "a", "name": "App"}),
]
"""What an earlier release wrote, and what is left of it."""


async def migrate(url: str, revision: str = "head") -> None:
    engine = create_engine(normalise_url(url), settings_for(url))
    await upgrade(engine, revision)
    await engine.dispose()


@pytest.fixture
async def old(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A database of the release before, with its entries of many ages in it."""
    await migrate(empty_database_url, BEFORE)
    connection = await asyncpg.connect(libpq_url(empty_database_url))
    for number, (action, detail, _) in enumerate(OLD):
        at = await connection.fetchval(f"SELECT now() - interval '{40 * number} days'")
        values = (uuid.UUID(int=number), at, action, uuid.uuid4(), json.dumps(detail))
        await connection.execute(ADD, *values)
    yield connection
    await connection.close()


async def entries(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    found: list[asyncpg.Record] = await connection.fetch("SELECT * FROM audit_entries ORDER BY id")
    return found


async def test_names_go_out_of_older_entries_and_an_entry_says_so(
    old: asyncpg.Connection, empty_database_url: str
) -> None:
    before = await entries(old)
    assert NAME.lower() in dump_of(empty_database_url)
    await migrate(empty_database_url)
    *after, last = await entries(old)
    assert [json.loads(each["detail"]) for each in after] == [left for _, _, left in OLD]
    for one, other in zip(before, after, strict=True):
        kept = ("id", "at", "action", "actor", "subject", "address", "request_id")
        assert [one[name] for name in kept] == [other[name] for name in kept]
    assert NAME.lower() not in dump_of(empty_database_url)
    assert last["action"] == "audit.names_removed"
    assert json.loads(last["detail"]) == {"entries": 4}
    assert (last["actor"], last["subject"]) == (None, None)
    assert last["id"].version == 7
    made_at = (last["id"].int >> 80) / 1000
    assert abs(made_at - last["at"].timestamp()) < 1


async def test_afterwards_the_log_is_append_only_as_before(
    old: asyncpg.Connection, empty_database_url: str
) -> None:
    function = "SELECT pg_get_functiondef('refuse_to_rewrite_the_audit_log()'::regprocedure)"
    before = await old.fetchval(function)
    await migrate(empty_database_url)
    assert await old.fetchval(function) == before
    for statement in ("UPDATE audit_entries SET detail = '{}'", "TRUNCATE audit_entries"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await old.execute(statement)
    off = "SELECT count(*) FROM pg_trigger WHERE tgenabled <> 'A' AND NOT tgisinternal"
    assert await old.fetchval(off) == 0


async def test_a_migration_that_fails_changes_no_entry(
    old: asyncpg.Connection, empty_database_url: str
) -> None:
    before = await entries(old)
    # In the way of what the migration makes last.
    await old.execute(
        "CREATE FUNCTION scopegate_notify_erased() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN RETURN NULL; END'"
    )
    with pytest.raises(Exception, match="scopegate_notify_erased"):
        await migrate(empty_database_url)
    assert await entries(old) == before
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await old.execute("UPDATE audit_entries SET detail = '{}'")


async def test_a_log_without_names_gets_no_entry(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    connection = await asyncpg.connect(libpq_url(empty_database_url))
    assert await entries(connection) == []
    await connection.close()


@pytest.mark.parametrize(("action", "detail", "left"), OLD)
async def test_what_the_release_before_writes_from_then_on_has_no_name_either(
    own_database_url: str, action: str, detail: dict[str, Any], left: dict[str, Any]
) -> None:
    connection = await asyncpg.connect(libpq_url(own_database_url))
    now = await connection.fetchval("SELECT now()")
    await connection.execute(ADD, uuid.uuid4(), now, action, None, json.dumps(detail))
    (entry,) = await entries(connection)
    written = json.loads(entry["detail"])
    # Which of its columns were changed is said by this release alone.
    assert written == {name: value for name, value in left.items() if name != "changed"}
    await connection.close()


async def test_logins_go_on_while_the_entries_are_rewritten(
    old: asyncpg.Connection, empty_database_url: str
) -> None:
    """No lock on the table: the function of its trigger is what changes, in one transaction."""
    migrator = await asyncpg.connect(libpq_url(empty_database_url))
    async with migrator.transaction():
        await migrator.execute(
            "CREATE OR REPLACE FUNCTION refuse_to_rewrite_the_audit_log() RETURNS trigger "
            "LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
        )
        await migrator.execute("UPDATE audit_entries SET detail = '{}'")
        now = await old.fetchval("SELECT now()")
        await old.execute("SET lock_timeout = '1s'")
        await old.execute(ADD, uuid.uuid4(), now, "login.succeeded", None, "{}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await old.execute("UPDATE audit_entries SET detail = '{}'")
    await migrator.close()
