"""Grants: giving a user a scope, taking it back, and what a request for scopes comes to."""

import uuid
from collections.abc import Set as AbstractSet
from datetime import datetime

from sqlalchemy import ColumnElement, delete, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Grant, Scope
from app.access.scopes import ADMIN, is_scope_name, satisfies
from app.db.changes import Change, announce
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
    session: AsyncSession,
    user_id: uuid.UUID,
    *,
    requested: AbstractSet[str] | None,
    within: AbstractSet[str] | None = None,
    now: datetime,
) -> frozenset[str]:
    """Requested ∩ granted now; everything granted when nothing was requested.

    `within` is what a refresh may not exceed: the scopes of its login.
    Raises InvalidScope when more is requested than that, or nothing of it is held.
    """
    if within is not None and requested is not None and not satisfies(within, requested):
        raise InvalidScope("More is asked for than was issued at login.")
    granted = await granted_scopes(session, user_id, now=now)
    if requested is None and within is None:
        return granted
    wanted = requested if requested is not None else within or frozenset()
    if ADMIN in granted:
        # An admin holds every scope that is registered, and may ask for just one.
        known = select(Scope.name).where(Scope.name.in_(wanted))
        issued = frozenset(await session.scalars(known))
    else:
        issued = granted & wanted
    if requested is not None and not issued:
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
    if not is_scope_name(scope):
        raise ScopeNotRegistered
    announce(session, Change("user", user_id))
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
    announce(session, Change("user", user_id))
    removed = await session.execute(
        delete(Grant).where(Grant.user_id == user_id, Grant.scope == scope).returning(Grant.scope)
    )
    return removed.first() is not None
