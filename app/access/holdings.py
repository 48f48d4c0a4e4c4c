"""Holdings: what a user holds at a moment, and what a request for scopes comes to."""

import uuid
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from datetime import datetime

from sqlalchemy import ColumnElement, DateTime, bindparam, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Grant
from app.access.scopes import ADMIN, registered_of, satisfies
from app.db.paging import paginate
from app.errors import InvalidScope
from app.identity.models import User


def in_force(now: datetime | ColumnElement[datetime]) -> ColumnElement[bool]:
    """The condition that a grant counts at that moment."""
    return or_(Grant.expires_at.is_(None), Grant.expires_at > now)


def holds(scope: str, *, now: datetime) -> ColumnElement[bool]:
    """Return the condition that this scope is granted to a user: itself, not by `admin`."""
    holders = select(Grant.user_id).where(Grant.scope == scope, in_force(now))
    return User.id.in_(holders)


async def grants_of(
    db: AsyncSession,
    user_id: uuid.UUID,
    *,
    after: str | None = None,
    limit: int | None = None,
    now: datetime,
) -> list[Grant]:
    """The user's grants that count now, by scope: up to `limit` of those after the given one."""
    statement = select(Grant).where(Grant.user_id == user_id, in_force(now))
    return await paginate(db, statement, Grant.scope, after=after, limit=limit)


async def granted_scopes(db: AsyncSession, user_id: uuid.UUID, *, now: datetime) -> frozenset[str]:
    """The scopes that the user holds now, as granted: `admin` stands for itself alone."""
    return frozenset(await db.scalars(_GRANTED, {"user_id": user_id, "now": now}))


# Built once, because each login and each refresh runs it.
_GRANTED = select(Grant.scope).where(
    Grant.user_id == bindparam("user_id"),
    in_force(bindparam("now", type_=DateTime(timezone=True))),
)


async def scopes_of_each(
    db: AsyncSession, user_ids: Collection[uuid.UUID], *, now: datetime
) -> dict[uuid.UUID, list[str]]:
    """What each of these users holds now, as granted, by name."""
    held: dict[uuid.UUID, list[str]] = {user_id: [] for user_id in user_ids}
    statement = select(Grant.user_id, Grant.scope).where(Grant.user_id.in_(held), in_force(now))
    for user_id, scope in await db.execute(statement.order_by(Grant.scope)):
        held[user_id].append(scope)
    return held


async def issuable_scopes(
    db: AsyncSession,
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
    granted = await granted_scopes(db, user_id, now=now)
    if requested is None and within is None:
        return granted
    wanted = requested if requested is not None else within or frozenset()
    if ADMIN in granted:
        # An admin holds every scope that is registered, and may ask for just one.
        issued = await registered_of(db, wanted)
    else:
        issued = granted & wanted
    if requested is not None and not issued:
        raise InvalidScope("None of the scopes asked for is granted.")
    return issued
