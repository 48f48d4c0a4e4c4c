"""Migrations while the release before serves, on a database of 100,000 users.

What this proves: while `migrate` goes from one revision to the next, and after it, the statements
below go on: those that a release of the revision before runs for a login, a refresh, a request, a
grant and a change of password. None fails, and none waits for a lock for a second. What it does not
prove: that these are all the statements there are, or how long a lock would be held on more rows.
"""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest
from alembic.script import ScriptDirectory

from app.db.engine import open_engine
from app.db.migrating import alembic_config, migrator_settings, upgrade
from tests.conftest import settings_for
from tests.support.postgres_programs import libpq_url
from tests.support.processes import PATIENCE

pytestmark = pytest.mark.system
USERS = 100_000
AT_ONCE = 2
LONGEST_WAIT = "1s"
_SCRIPTS = ScriptDirectory.from_config(alembic_config()).walk_revisions()
REVISIONS = [script.revision for script in _SCRIPTS][::-1]
"""Oldest first."""

Transaction = tuple[str, ...]
"""Statements about one user, who is $1."""

STATEMENTS: dict[str, list[Transaction]] = {
    "0001": [
        (
            "SELECT id, username, username_key, kind, password_hash, disabled_at, created_at "
            "FROM users WHERE id = $1",
        ),
        ("UPDATE users SET password_hash = 'another' WHERE id = $1 RETURNING id",),
        (
            "SELECT scope, granted_at, granted_by, expires_at, reason FROM grants "
            "WHERE user_id = $1 AND (expires_at IS NULL OR expires_at > now())",
        ),
        (
            "SELECT id FROM users WHERE id = $1 FOR NO KEY UPDATE",
            "INSERT INTO grants (user_id, scope) VALUES ($1, 'write:items') "
            "ON CONFLICT (user_id, scope) DO UPDATE SET granted_at = now()",
        ),
        ("DELETE FROM grants WHERE user_id = $1 AND scope = 'write:items' RETURNING scope",),
        (
            "SELECT name, description FROM scopes WHERE $1::uuid IS NOT NULL",
            "SELECT kid, algorithm, encrypted_private_key, created_at FROM signing_keys "
            "WHERE $1::uuid IS NOT NULL",
        ),
        (
            "INSERT INTO items (id, owner_id, title) VALUES (gen_random_uuid(), $1, 'Lamp')",
            "SELECT id, title, description, updated_at FROM items WHERE owner_id = $1 LIMIT 20",
        ),
    ],
    "0002": [
        (
            "SELECT id FROM users WHERE id = $1 AND disabled_at IS NULL FOR SHARE",
            "INSERT INTO sessions "
            "(id, user_id, scopes, expires_at, idle_expires_at, refresh_key, address) VALUES "
            "(gen_random_uuid(), $1, '{read:items}', now() + interval '30 days', "
            "now() + interval '14 days', '\\x00', '192.0.2.1')",
        ),
        (
            "UPDATE sessions SET generation = generation + 1, rotated_at = now(), "
            "last_used_at = now() WHERE id = (SELECT id FROM sessions WHERE user_id = $1 "
            "AND ended_at IS NULL LIMIT 1) RETURNING id, client_id, scopes, created_at, "
            "last_used_at, expires_at, idle_expires_at, address, user_agent, generation, "
            "rotated_at, refresh_key, ended_at, end_reason",
        ),
        (
            "SELECT u.username, s.expires_at, s.idle_expires_at FROM users u "
            "JOIN sessions s ON s.user_id = u.id WHERE u.id = $1 AND u.disabled_at IS NULL "
            "AND s.ended_at IS NULL AND s.expires_at > now()",
        ),
        (
            "UPDATE users SET password_hash = 'one more' WHERE id = $1",
            "UPDATE sessions SET ended_at = now(), end_reason = 'password set' "
            "WHERE user_id = $1 AND ended_at IS NULL RETURNING id",
        ),
        ("SELECT id, digest, created_at FROM client_secrets WHERE user_id = $1",),
        (
            "SELECT kid, algorithm, encrypted_private_key, signs_from, retires_at "
            "FROM signing_keys WHERE $1::uuid IS NOT NULL",
        ),
    ],
    "0004": [
        (
            "INSERT INTO audit_entries (id, action, actor, subject, detail) VALUES "
            "(gen_random_uuid(), 'login.succeeded', $1, $1, '{}')",
            "SELECT id, at, action, actor, subject, detail, address, request_id "
            "FROM audit_entries WHERE subject = $1 ORDER BY id DESC LIMIT 20",
        ),
    ],
    "0008": [
        (
            "UPDATE sessions SET generation = generation + 1, rotated_at = now(), "
            "rotated_generation = generation + 1, rotated_network = '192.0.2.1', "
            "rotated_user_agent = 'a browser' WHERE id = (SELECT id FROM sessions "
            "WHERE user_id = $1 AND ended_at IS NULL LIMIT 1) "
            "RETURNING rotated_generation, rotated_network, rotated_user_agent",
        ),
    ],
    "0009": [
        (
            "SELECT pg_advisory_xact_lock_shared(1) WHERE $1::uuid IS NOT NULL",
            "SELECT id, username FROM users WHERE username_skeleton IS NULL AND id = $1 "
            "FOR NO KEY UPDATE SKIP LOCKED",
            "SELECT username FROM users WHERE username_skeleton = '\\x00' AND id <> $1",
        ),
        ("UPDATE users SET username_skeleton = '\\x01' WHERE id = $1",),
    ],
    "0011": [
        (
            "UPDATE users SET last_sign_in_at = now() WHERE id = $1 AND (last_sign_in_at IS NULL "
            "OR last_sign_in_at < now() - interval '1 minute')",
        ),
    ],
}
"""What a release does, by the revision whose tables it needs: those after it do the same."""

ROWS = {
    "0001": """
        INSERT INTO scopes (name, description) VALUES ('read:items', ''), ('write:items', '')
            ON CONFLICT DO NOTHING;
        INSERT INTO signing_keys (kid, algorithm, encrypted_private_key) VALUES ('k', 'ES256', '');
        INSERT INTO users (id, username, username_key, password_hash)
            SELECT gen_random_uuid(), 'user' || n, 'user' || n, 'a hash'
            FROM generate_series(1, {users}) n;
        INSERT INTO grants (user_id, scope) SELECT id, 'read:items' FROM users;
        INSERT INTO items (id, owner_id, title) SELECT gen_random_uuid(), id, 'Lamp' FROM users;
    """,
    "0002": """
        INSERT INTO sessions (id, user_id, scopes, expires_at, idle_expires_at, refresh_key)
            SELECT gen_random_uuid(), id, '{{read:items}}', now() + interval '30 days',
                now() + interval '14 days', '\\x00' FROM users;
        INSERT INTO opaque_tokens
            (digest, session_id, token_id, scopes, issued_at, expires_at)
            SELECT id::text::bytea, id, id, scopes, now(), now() + interval '15 minutes'
            FROM sessions;
    """,
    "0004": """
        INSERT INTO audit_entries (id, action, actor, subject, detail)
            SELECT gen_random_uuid(), 'login.succeeded', id, id, '{{}}' FROM users;
    """,
}
"""What fills a revision's new tables."""


class Release:
    """What serves: each of its connections does the same again and again, for one user or other."""

    def __init__(self, transactions: Sequence[Transaction], users: Sequence[uuid.UUID]) -> None:
        self._transactions = transactions
        self._users = users
        self._rounds = [0] * AT_ONCE
        self.tasks: list[asyncio.Task[None]] = []

    async def serve(self, number: int, connection: asyncpg.Connection) -> None:
        """Go on until something fails."""
        while True:
            user = random.choice(self._users)  # noqa: S311
            for statements in self._transactions:
                async with connection.transaction():
                    for statement in statements:
                        await connection.fetch(statement, user)
            self._rounds[number] += 1

    async def goes_on(self) -> None:
        """Return when every connection has done everything once more; raise what stops one."""
        # The round that each is in began before.
        wanted = [done + 2 for done in self._rounds]
        async with asyncio.timeout(PATIENCE):
            while any(done < enough for done, enough in zip(self._rounds, wanted, strict=True)):
                for task in self.tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(url: str, revision: str) -> AsyncIterator[Release]:
    """A release of that revision, at work on the database."""
    # Prepared once and used again, as the service's connections do it: a statement must also live
    # through a change of its tables.
    connections = [
        await asyncpg.connect(libpq_url(url), server_settings={"lock_timeout": LONGEST_WAIT})
        for _ in range(AT_ONCE)
    ]
    rows = await connections[0].fetch("SELECT id FROM users LIMIT 1000")
    known = REVISIONS[: REVISIONS.index(revision) + 1]
    transactions = [each for needs in known for each in STATEMENTS.get(needs, ())]
    release = Release(transactions, [row["id"] for row in rows])
    release.tasks = [
        asyncio.create_task(release.serve(number, connection))
        for number, connection in enumerate(connections)
    ]
    try:
        yield release
    finally:
        for task in release.tasks:
            task.cancel()
        await asyncio.wait(release.tasks)
        for connection in connections:
            connection.terminate()


async def test_the_release_before_serves_on_while_each_migration_runs(
    empty_database_url: str,
) -> None:
    url = empty_database_url
    first, *later = REVISIONS
    async with open_engine(migrator_settings(settings_for(url))) as engine:
        await upgrade(engine, first)
        await fill(url, first)
        before = first
        for revision in later:
            async with serving(url, before) as release:
                await release.goes_on()
                await upgrade(engine, revision)
                await release.goes_on()
            await fill(url, revision)
            before = revision
        async with serving(url, before) as release:
            await release.goes_on()


@pytest.mark.parametrize(
    ("migration", "noticed"),
    [
        ("LOCK TABLE users IN SHARE MODE; SELECT pg_sleep(60)", asyncpg.LockNotAvailableError),
        ("ALTER TABLE sessions RENAME generation TO counter", asyncpg.UndefinedColumnError),
        (
            "ALTER TABLE items ADD CHECK (title <> 'Lamp') NOT VALID",
            asyncpg.CheckViolationError,
        ),
    ],
    ids=["holds a lock", "takes something away", "asks for something new"],
)
async def test_a_migration_that_disturbs_the_release_before_is_noticed(
    own_database_url: str, migration: str, noticed: type[Exception]
) -> None:
    for revision in REVISIONS:
        await fill(own_database_url, revision, users=10)
    migrator = await asyncpg.connect(libpq_url(own_database_url))
    async with serving(own_database_url, REVISIONS[-1]) as release:
        await release.goes_on()
        running = asyncio.create_task(migrator.execute(migration))
        with pytest.raises(noticed):
            await asyncio.wait_for(asyncio.gather(*release.tasks), PATIENCE)
        running.cancel()
    migrator.terminate()


async def fill(url: str, revision: str, *, users: int = USERS) -> None:
    """Put rows into the tables that came with this revision."""
    connection = await asyncpg.connect(libpq_url(url))
    await connection.execute(ROWS.get(revision, "").format(users=users) + "ANALYZE")
    await connection.close()
