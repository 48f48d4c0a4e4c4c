"""Holdings: what a user holds at a moment, and what a request for scopes comes to."""

import uuid
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, DateTime, Select, Uuid, bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.access.client_limits import ClientLimit
from app.access.models import Grant
from app.access.scopes import ADMIN, IDENTITY, registered_of, satisfies
from app.db.paging import paginate
from app.errors import InvalidScope
from app.identity.models import User

Granted = Mapping[str, datetime | None]
"""Scopes, and until when each is held; None: that has no set time."""


@dataclass(frozen=True, slots=True)
class Issuable:
    """The scopes that a token may be issued for now."""

    scopes: frozenset[str]
    ends_at: datetime | None
    """When the first of them is no longer held; None: that has no set time."""


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


async def granted_until(db: AsyncSession, user_id: uuid.UUID, *, now: datetime) -> Granted:
    """The scopes that the user holds now, as granted, and until when."""
    return read_granted(await db.scalar(_GRANTED, {"user_id": user_id, "now": now}))


def granted_to(
    user_id: ColumnElement[uuid.UUID] | InstrumentedAttribute[uuid.UUID],
    now: ColumnElement[datetime],
) -> Select[Any]:
    """Select what this user holds at that moment, for `read_granted`: one value."""
    held = func.json_object_agg(Grant.scope, Grant.expires_at)
    return select(held).where(Grant.user_id == user_id, in_force(now))


def read_granted(found: Mapping[str, str | None] | None) -> Granted:
    """Return what `granted_to` has selected: the scopes, and until when each is held."""
    ends = (found or {}).items()
    # OpenID Connect's are no grants, although the previous release may have written one.
    return {
        scope: datetime.fromisoformat(end) if end else None
        for scope, end in ends
        if scope not in IDENTITY
    }


# Built once, because each login runs it.
_GRANTED = granted_to(
    bindparam("user_id", type_=Uuid()), bindparam("now", type_=DateTime(timezone=True))
)


def first_end(granted: Granted, scopes: Iterable[str]) -> datetime | None:
    """Return when the first of these scopes is no longer held, by what is granted now.

    None: that has no set time. A scope that `admin` gives too ends with the later of the two.
    """
    ends = []
    for scope in scopes:
        behind = [granted[each] for each in {scope, ADMIN} & granted.keys()]
        if behind and None not in behind:
            ends.append(max(filter(None, behind)))
    return min(ends, default=None)


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
    granted: Granted,
    *,
    requested: AbstractSet[str] | None,
    within: AbstractSet[str] | None = None,
    limit: ClientLimit | None = None,
) -> Issuable:
    """Requested ∩ granted now; everything granted when nothing was requested.

    `within` is what a refresh may not exceed: the scopes of its login. `limit` is a registered
    client's; its tokens have what is `within` at most.
    Raises InvalidScope when more is requested than that, or nothing of it is held.
    """
    if within is not None and requested is not None and not satisfies(within, requested):
        raise InvalidScope("More is asked for than was issued at login.")
    if requested is None and within is None and limit is None:
        return Issuable(frozenset(granted), first_end(granted, granted))
    wanted = requested if requested is not None else within or frozenset()
    if ADMIN in granted:
        # An admin holds every scope that is registered, and may ask for just one.
        issued = await registered_of(db, wanted)
    else:
        issued = frozenset(wanted & granted.keys())
    if limit is not None:
        issued = limit.of(issued | (wanted & IDENTITY.keys()))
    if requested is not None and not issued:
        raise InvalidScope("None of the scopes asked for is granted.")
    return Issuable(issued, first_end(granted, issued))
