"""Authority: the rules by which nobody climbs, neither themselves nor through another account.

A caller *holds* their effective scopes: those of the token in hand that are granted now.

- What they pass on, they hold, and at least for as long. What they take back, they hold.
- An account that they change holds no scope that they lack; and none for longer than they, where
  the change may serve them from then on: another password, secret or name, or enabling it.
- `admin` counts as every scope. Some enabled account that can authenticate always holds it without
  end: a service account with a secret, or a person with a password while the password grant is on.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Select, and_, exists, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.holdings import grants_of, in_force
from app.access.models import Grant
from app.access.principals import load_holder
from app.access.scopes import ADMIN
from app.audit.log import Actor
from app.errors import Conflict, DomainError, InvalidToken
from app.identity.locks import hold_users
from app.identity.models import ClientSecret, Session, User
from app.identity.users import UserNotFound

NEVER = datetime.min.replace(tzinfo=UTC)
FOREVER = datetime.max.replace(tzinfo=UTC)
# Any number will do, as long as nothing else in this database locks it.
ADMINS_LOCK = 0x5C09E6A9


class BeyondAuthority(DomainError):
    """The caller would climb."""

    status = 403


class LastAdmin(Conflict):
    """Nobody would be left who can undo it."""

    def __init__(self) -> None:
        super().__init__(
            "No other enabled user holds admin without end and can sign in: grant it to one first."
        )


@dataclass(frozen=True, slots=True)
class Caller(Actor):
    """Who asks for a change, in which session, and the scopes that the request may use."""

    session_id: uuid.UUID | None = None
    scopes: frozenset[str] = frozenset()


OPERATOR = Caller(scopes=frozenset({ADMIN}))
"""Whoever runs a command: they could write into the database as well, so they may do all."""


async def confirm_caller(session: AsyncSession, *, by: Caller, now: datetime) -> None:
    """Return only if the caller still is who they were when the request began.

    Whoever puts them out from now on waits for the commit. Raises InvalidToken when they were
    disabled or signed out, BeyondAuthority when they have lost a scope.
    """
    await hold_users(session, by.user_id)
    await _held(session, by, now=now)


async def managed_user(
    session: AsyncSession,
    user_id: uuid.UUID,
    *,
    by: Caller,
    now: datetime,
    for_good: bool = False,
) -> User:
    """The account, for a caller who may change it: nobody else changes it until the commit.

    `for_good`: the change may let the caller use the account from then on, also when they hold
    nothing any more. Raises UserNotFound, what `confirm_caller` raises, or BeyondAuthority when the
    account holds a scope that the caller lacks, or holds it for longer if it is for good.
    """
    await hold_users(session, user_id, by.user_id)
    user = await session.get(User, user_id, populate_existing=True)
    if user is None:
        raise UserNotFound
    held = await _held(session, by, now=now)
    for each in await grants_of(session, user_id, now=now):
        end = _end(held, each.scope)
        if end <= now:
            raise BeyondAuthority("This account holds a scope that you don't hold.")
        if for_good and end < (each.expires_at or FOREVER):
            raise BeyondAuthority("This account holds a scope for longer than you do.")
    return user


async def require_holding(
    session: AsyncSession, scope: str, *, until: datetime, by: Caller, now: datetime
) -> None:
    """Return only if the caller holds the scope, until then at least.

    Raises BeyondAuthority, or InvalidToken when the caller was disabled or signed out meanwhile.
    """
    end = _end(await _held(session, by, now=now), scope)
    if end <= now:
        raise BeyondAuthority("You don't hold this scope.")
    if end < until:
        raise BeyondAuthority("You don't hold this scope for as long.")


async def keep_an_admin(session: AsyncSession, user_id: uuid.UUID, *, now: datetime) -> None:
    """Return only if `admin` can do without this user, and see that it stays so till the commit.

    Raises LastAdmin.
    """
    # Of two who would each leave it to the other, one waits here and then finds nobody else.
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADMINS_LOCK})
    admins = _admins(session, now)
    if not await session.scalar(admins.where(Grant.user_id == user_id)):
        return
    lasting = admins.where(Grant.user_id != user_id, Grant.expires_at.is_(None))
    if not await session.scalar(lasting):
        raise LastAdmin


async def has_lasting_admin(session: AsyncSession, *, now: datetime) -> bool:
    """Return whether an enabled account that can authenticate holds `admin` without end."""
    lasting = _admins(session, now).where(Grant.expires_at.is_(None))
    return await session.scalar(lasting) is not None


def _admins(session: AsyncSession, now: datetime) -> Select[uuid.UUID]:
    # An account that can't authenticate can't undo anything, so it doesn't count as an admin.
    can_authenticate = and_(User.kind == "service", exists().where(ClientSecret.user_id == User.id))
    # Without the password grant no person can.
    if session.info.get("password_grant", True):
        can_authenticate |= and_(User.kind == "person", User.password_hash.is_not(None))
    return (
        select(Grant.user_id)
        .join(User, User.id == Grant.user_id)
        .where(Grant.scope == ADMIN, in_force(now), User.disabled_at.is_(None), can_authenticate)
        .limit(1)
    )


async def _held(session: AsyncSession, by: Caller, *, now: datetime) -> dict[str, datetime]:
    """What the caller holds, and until when.

    Read anew, in the transaction that relies on it: when authority is used, no cache will do.
    Raises InvalidToken when they were disabled or signed out since the request began, and
    BeyondAuthority when they have lost a scope since then: also one that the route asked for.
    """
    if by.user_id is None:
        return dict.fromkeys(by.scopes, FOREVER)
    if by.session_id is None:
        raise InvalidToken
    # Who signs them out waits for the commit; others of the same session don't.
    await session.execute(
        select(Session.id).where(Session.id == by.session_id).with_for_update(read=True)
    )
    holder = await load_holder(session, by.session_id, user_id=by.user_id, now=now)
    if holder is None:
        raise InvalidToken
    if holder.principal(by.scopes).scopes != by.scopes:
        raise BeyondAuthority("You have just lost a scope: look again at what you hold.")
    granted = {scope: end or FOREVER for scope, end in holder.granted.items()}
    return {scope: _end(granted, scope) for scope in by.scopes}


def _end(held: Mapping[str, datetime], scope: str) -> datetime:
    """Until when this is held: by itself, or by `admin`."""
    return max((held[name] for name in (scope, ADMIN) if name in held), default=NEVER)
