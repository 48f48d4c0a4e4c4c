"""Users with very many sessions, and very many users."""

import uuid
from collections.abc import Awaitable, Callable

import asyncpg
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access import accounts
from app.identity.models import Session
from app.identity.session_writes import ENDED_AT_ONCE, end_sessions_of
from app.identity.sessions import live_sessions
from app.runtime import Runtime
from tests.support.factories import OPERATOR
from tests.support.postgres_programs import libpq_url
from tests.support.statements import execute

MANY = ENDED_AT_ONCE + 500
EXPIRED = 30
NEW_PASSWORD = "another battery staple horse"
OPEN_MANY = """
INSERT INTO sessions (id, user_id, epoch, scopes, created_at, expires_at, idle_expires_at,
    refresh_key)
SELECT gen_random_uuid(), id, session_epoch, '{}', now() + age, now() + age + '30 days',
    now() + age + '14 days', '\\x00'
FROM users, generate_series(1, :number) n, LATERAL (SELECT n * interval '-1 ms' AS age) a
WHERE users.id = :user
"""
OPEN_EXPIRED = OPEN_MANY.replace("'30 days'", "'-1 hour'").replace("'14 days'", "'-1 hour'")
End = Callable[[Runtime, uuid.UUID], Awaitable[None]]
MAKE_USERS = """
SET session_replication_role = replica;
WITH made AS (
    INSERT INTO users (id, username, username_key)
    SELECT gen_random_uuid(), n, n FROM generate_series(1, {number}) n RETURNING id
)
INSERT INTO grants (user_id, scope) SELECT id, '{scope}' FROM made
"""


async def open_many(runtime: Runtime, user_id: uuid.UUID, number: int = MANY) -> None:
    # A connection without the service's timeouts, and without foreign keys: these take longer than
    # all the rest.
    url = runtime.engine.url.render_as_string(hide_password=False)
    connection = await asyncpg.connect(libpq_url(url))
    await connection.execute("SET session_replication_role = replica")
    statement = OPEN_MANY.replace(":number", str(number)).replace(":user", f"'{user_id}'")
    await connection.execute(statement)
    await connection.close()


async def make_holders(database_url: str, number: int, scope: str) -> None:
    """Make many users who hold a scope. Nobody hears of it: without triggers it takes less time."""
    connection = await asyncpg.connect(libpq_url(database_url))
    await connection.execute(MAKE_USERS.format(number=number, scope=scope))
    await connection.close()


async def count_ended(runtime: Runtime, user_id: uuid.UUID) -> int:
    async with runtime.sessions() as db:
        ended = select(func.count(Session.ended_at)).where(Session.user_id == user_id)
        return (await db.execute(ended)).scalar_one()


async def open_many_that_expired(runtime: Runtime, user_id: uuid.UUID) -> None:
    """Open sessions like a service account's: they expire, and nobody ends them."""
    await execute(runtime, OPEN_EXPIRED, number=EXPIRED, user=user_id)


async def live(
    db: AsyncSession, runtime: Runtime, user_id: uuid.UUID, *, limit: int = 9999
) -> list[Session]:
    return await live_sessions(db, user_id, after=None, limit=limit, now=runtime.now())


def bearer_of(pair: dict[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair['access_token']}"}


async def disable(runtime: Runtime, user_id: uuid.UUID) -> None:
    async with runtime.work(OPERATOR) as work:
        await accounts.disable(work, user_id)


async def sign_out(runtime: Runtime, user_id: uuid.UUID) -> None:
    async with runtime.work(OPERATOR) as work:
        reason = "ended by an operator"
        await end_sessions_of(work, user_id, reason=reason)
