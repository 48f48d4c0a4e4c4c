"""Grants: giving a user a scope, taking it back, and what a request for scopes comes to."""

import uuid
from collections.abc import Set as AbstractSet
from datetime import datetime

from sqlalchemy import ColumnElement, delete, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Grant, Scope
from app.access.scopes import ADMIN
from app.errors import InvalidScope, NotFound


class ScopeNotRegistered(NotFound):
    """There is no such scope to grant."""

    def __init__(self) -> None:
        super().__init__("There is no such scope: see the list of scopes.")


def in_force(now: datetime) -> ColumnElement[bool]:
    """The condition that a grant counts at that moment."""
    return or_(Grant.expires_at.is_(None), Grant.expires_at > now)


async def granted_scopes(
    session: AsyncSession, user_id: uuid.UUID, *, now: datetime
) -> frozenset[str]:
    """The scopes that the user holds now, as granted: `admin` stands for itself alone."""
    scopes = select(Grant.scope).where(Grant.user_id == user_id, in_force(now))
    return frozenset(await session.scalars(scopes))


async def issuable_scopes(
    session: AsyncSession, user_id: uuid.UUID, *, requested: AbstractSet[str] | None, now: datetime
) -> frozenset[str]:
    """Requested ∩ granted now; everything granted when nothing was requested.

    Raises InvalidScope when scopes were requested and none of them is held.
    """
    granted = await granted_scopes(session, user_id, now=now)
    if requested is None:
        return granted
    if ADMIN in granted:
        # An admin holds every scope that is registered, and may ask for just one.
        known = select(Scope.name).where(Scope.name.in_(requested))
        issued = frozenset(await session.scalars(known))
    else:
        issued = granted & requested
    if not issued:
        raise InvalidScope("None of the scopes asked for is granted.")
    return issued


async def grant(
    session: AsyncSession,
    *,
    user_id: uuid.UUID,
    scope: str,
    granted_by: uuid.UUID | None = None,
    expires_at: datetime | None = None,
    reason: str | None = None,
) -> None:
    """Let the user hold the scope. Again is the same, with the newer end and reason.

    Raises ScopeNotRegistered.
    """
    terms = {"granted_by": granted_by, "expires_at": expires_at, "reason": reason}
    statement = (
        insert(Grant)
        .values(user_id=user_id, scope=scope, **terms)
        .on_conflict_do_update(index_elements=[Grant.user_id, Grant.scope], set_=terms)
    )
    try:
        async with session.begin_nested():
            await session.execute(statement)
    except IntegrityError:
        raise ScopeNotRegistered from None


async def revoke(session: AsyncSession, *, user_id: uuid.UUID, scope: str) -> bool:
    """Take the scope back. Tokens already out lose it too. False: it was not held anyway."""
    removed = await session.execute(
        delete(Grant).where(Grant.user_id == user_id, Grant.scope == scope).returning(Grant.scope)
    )
    return removed.first() is not None
