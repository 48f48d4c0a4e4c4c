"""Logins as the throttle meets them, and what it has charged."""

import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from sqlalchemy import literal, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.models import AuditEntry
from app.db.work import Actor, Origin, Work
from app.identity import throttle
from app.identity.login import LoginRefused
from app.identity.models import FailureBudget
from app.identity.networks import insert_network, network_values
from app.identity.throttle import (
    LOGIN,
    AttemptSource,
    FailureLimit,
    Throttled,
)
from app.runtime import Runtime
from app.tokens.issuing import password_grant
from tests.conftest import following, settings_for
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, PASSWORD, Someone, authenticated

HOME = "192.0.2.1"
AWAY = "198.51.100.7"


def numbered(number: int) -> str:
    """One of very many addresses."""
    return f"203.0.{number // 256}.{number % 256}"


async def sign_in(
    runtime: Runtime, username: str, password: str = PASSWORD, *, address: str
) -> str:
    """A whole login by password: `in`, `refused` after it was checked, or `throttled`."""
    actor = Actor(origin=Origin(address=address))
    try:
        user = await authenticated(runtime, username, password, actor=actor)
    except LoginRefused:
        return "refused"
    except Throttled:
        return "throttled"
    async with runtime.work(actor, at_once=True) as work:
        await password_grant(work, runtime.issuer, person=user, client=None, requested=None)
    return "in"


async def fail(
    runtime: Runtime,
    name: str,
    *,
    address: str,
    user: Someone | None = None,
    limits: tuple[FailureLimit, ...] = LOGIN,
) -> None:
    """A failure as a login charges it, without the hash that it costs. Raises Throttled."""
    source = AttemptSource(name, user.id if user else None, address)
    async with runtime.work(OPERATOR) as work:
        attempt = runtime.throttle.attempt(limits, source, now=work.now)
        await runtime.throttle.admit(work.db, attempt)
        await throttle.charge(work.db, attempt, now=work.now)


async def remember(work: Work[Actor], user_id: uuid.UUID) -> None:
    """Note that the user has signed in from where the actor is, as a login does."""
    statement = insert_network(literal(user_id), true())
    raw = statement.execution_options(dml_strategy="raw")  # The values are its own, not rows.
    await work.db.execute(raw, network_values(work))


async def wait_of(runtime: Runtime, name: str = "alice", *, address: str = HOME) -> timedelta:
    """How long an attempt has to wait; zero: it is let in."""
    async with runtime.sessions() as db:
        try:
            source = AttemptSource(name, None, address)
            attempt = runtime.throttle.attempt(LOGIN, source, now=runtime.now())
            await runtime.throttle.admit(db, attempt)
        except Throttled as refused:
            return timedelta(seconds=refused.retry_after)
    return timedelta()


async def budgets(db: AsyncSession) -> list[datetime]:
    """What is in the table, the longest wait first."""
    found = select(FailureBudget.open_at).order_by(FailureBudget.open_at.desc())
    return list(await db.scalars(found))


async def actions(runtime: Runtime) -> Counter[str]:
    """How many audit entries there are of each action."""
    async with runtime.sessions() as db:
        return Counter(await db.scalars(select(AuditEntry.action)))


@asynccontextmanager
async def replica(database_url: str, clock: MovableClock) -> AsyncIterator[Runtime]:
    """A runtime that turns nobody away for being busy, so that logins meet the throttle alone."""
    settings = settings_for(
        database_url,
        hash_queue=2000,
        database_connect_timeout=60,
        database_pool_timeout=60,
        database_statement_timeout=60,
    )
    async with Runtime.open(settings, now=clock) as runtime, following(runtime):
        yield runtime
