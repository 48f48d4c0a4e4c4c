"""Principals, found as a process finds them, and changes as another process makes them."""

import uuid
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.grants import revoke
from app.access.holders import Principal
from app.access.principals import Principals
from app.db.work import Database
from app.runtime import Runtime
from tests.support.factories import OPERATOR, Someone, add_session
from tests.support.locks import HeldSession

SCOPE = "read:items"


@dataclass(frozen=True)
class Login:
    """Somebody's session."""

    user: Someone
    session_id: uuid.UUID


async def sign_in(runtime: Runtime, user: Someone, *, minutes: float = 60) -> Login:
    async with runtime.work(OPERATOR) as work:
        session_id = await add_session(work, user.id, SCOPE, lifetime=timedelta(minutes=minutes))
    return Login(user, session_id)


async def find(
    principals: Principals, runtime: Runtime, login: Login, *scopes: str
) -> Principal | None:
    return await principals.find(
        login.session_id,
        user_id=login.user.id,
        token_scopes=frozenset(scopes or {SCOPE}),
        now=runtime.now(),
    )


def held_principals(runtime: Runtime, size: int = 10) -> Principals:
    sessions: async_sessionmaker[AsyncSession]
    sessions = async_sessionmaker(runtime.engine, class_=HeldSession)
    return Principals(sessions, runtime.feed, size=size)


def elsewhere(runtime: Runtime) -> Database:
    """The database as another process uses it: this one hears of changes only from there."""
    return replace(runtime.database, publish=lambda _: None)


async def revoke_elsewhere(runtime: Runtime, user: Someone) -> None:
    async with elsewhere(runtime).work(OPERATOR) as work:
        await revoke(work, user.id, SCOPE)


def scopes_of(principal: Principal | None) -> frozenset[str]:
    assert principal is not None
    return principal.scopes
