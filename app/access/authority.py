"""Authority: the rules by which nobody climbs, neither themselves nor through another account.

A caller *holds* their effective scopes: those of the token in hand that are granted now.

- What is passed on or taken back, they hold, and at least for as long.
- The account that they change (its password, secrets, name, sessions, grants, whether it is
  disabled) holds no scope that they lack.
- `admin` counts as every scope. Somebody enabled always holds it without end.
"""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Select, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.holdings import granted_scopes, grants_of, in_force
from app.access.models import Grant
from app.access.scopes import ADMIN, effective_scopes, satisfies
from app.audit.log import Actor
from app.errors import Conflict, DomainError
from app.identity.models import User
from app.identity.users import UserNotFound, disable_user

FOREVER = datetime.max.replace(tzinfo=UTC)
# Any number will do, as long as nothing else in this database locks it.
ADMINS_LOCK = 0x5C09E6A9


class BeyondAuthority(DomainError):
    """The caller would climb."""

    status = 403


class LastAdmin(Conflict):
    """Nobody would be left who can undo it."""

    def __init__(self) -> None:
        super().__init__("No other enabled user holds admin without end: grant it to one first.")


@dataclass(frozen=True, slots=True)
class Caller(Actor):
    """Who asks for a change, and the scopes that the request may use."""

    scopes: frozenset[str] = frozenset()


OPERATOR = Caller(scopes=frozenset({ADMIN}))
"""Whoever runs a command: they could write into the database as well, so they may do all."""


async def managed_user(
    session: AsyncSession, user_id: uuid.UUID, *, by: Caller, now: datetime
) -> User:
    """The account, for a caller who may change it: no other changes it until the commit.

    Raises UserNotFound, or BeyondAuthority when it holds a scope that the caller lacks.
    """
    # Not FOR UPDATE: rows that refer to the user may go on being written.
    locked = select(User).where(User.id == user_id).with_for_update(key_share=True)
    user = await session.scalar(locked)
    if user is None:
        raise UserNotFound
    held = await _held(session, by, now=now)
    if not satisfies(held.keys(), await granted_scopes(session, user_id, now=now)):
        raise BeyondAuthority("This account holds a scope that you don't hold.")
    return user


async def require_holding(
    session: AsyncSession, scope: str, *, until: datetime, by: Caller, now: datetime
) -> None:
    """Return only if the caller holds the scope, until then at least. Raises BeyondAuthority."""
    held = await _held(session, by, now=now)
    ends = [held[name] for name in (scope, ADMIN) if name in held]
    if not ends:
        raise BeyondAuthority("You don't hold this scope.")
    if max(ends) < until:
        raise BeyondAuthority("You don't hold this scope for as long.")


async def keep_an_admin(session: AsyncSession, user_id: uuid.UUID, *, now: datetime) -> None:
    """Return only if `admin` can do without this user, and see that it stays so till the commit.

    Raises LastAdmin.
    """
    # Of two who would each leave it to the other, one waits here and then finds nobody else.
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADMINS_LOCK})
    if not await session.scalar(_admins(now).where(Grant.user_id == user_id)):
        return
    lasting = _admins(now).where(Grant.user_id != user_id, Grant.expires_at.is_(None))
    if not await session.scalar(lasting):
        raise LastAdmin


async def has_lasting_admin(session: AsyncSession, *, now: datetime) -> bool:
    """Whether somebody enabled holds `admin` without end, as it should always be."""
    lasting = _admins(now).where(Grant.expires_at.is_(None))
    return await session.scalar(lasting) is not None


async def disable_account(
    session: AsyncSession, user_id: uuid.UUID, *, by: Caller, now: datetime, force: bool = False
) -> None:
    """No login and no token of this account counts any more.

    Raises UserNotFound, BeyondAuthority, and LastAdmin for the last admin, unless forced.
    """
    await managed_user(session, user_id, by=by, now=now)
    if not force:
        await keep_an_admin(session, user_id, now=now)
    await disable_user(session, user_id, by=by, now=now)


def _admins(now: datetime) -> Select[uuid.UUID]:
    return (
        select(Grant.user_id)
        .join(User, User.id == Grant.user_id)
        .where(Grant.scope == ADMIN, in_force(now), User.disabled_at.is_(None))
        .limit(1)
    )


async def _held(session: AsyncSession, by: Caller, *, now: datetime) -> dict[str, datetime]:
    """What the caller holds, and until when.

    Read anew, in the transaction that relies on it: when authority is passed on, no cache will do.
    """
    if by.user_id is None:
        return dict.fromkeys(by.scopes, FOREVER)
    granted = {
        each.scope: each.expires_at or FOREVER
        for each in await grants_of(session, by.user_id, now=now)
    }
    return {
        scope: max(granted[name] for name in (scope, ADMIN) if name in granted)
        for scope in effective_scopes(by.scopes, granted.keys())
    }
