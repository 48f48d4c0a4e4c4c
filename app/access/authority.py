"""Authority: the rules that keep callers from gaining scopes, also through another account.

A caller *holds* their effective scopes: those of the token in hand that are granted now.

- A caller grants only scopes that they hold, and for no longer. A caller revokes only scopes that
  they hold.
- A caller changes only accounts that hold no scope that the caller lacks. If the change may serve
  the caller later (a new password, secret or name, or enabling), the account must also hold no
  scope for longer than the caller.
- `admin` counts as every scope. Some enabled account that can authenticate always holds it without
  end: a service account with a secret, or a person with a password while the password grant is on.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from sqlalchemy import Select, and_, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.holders import Principal, load_holder
from app.access.holdings import granted_until, grants_of, in_force
from app.access.models import Grant
from app.access.scopes import ADMIN, satisfies
from app.db.locks import Lock, take_lock
from app.db.work import Actor, Origin, Work
from app.errors import Conflict, DomainError, InvalidToken
from app.identity.locks import hold_users
from app.identity.models import ClientSecret, Registration, Session, User
from app.identity.users import UserNotFound

BEGINNING_OF_TIME = datetime.min.replace(tzinfo=UTC)
END_OF_TIME = datetime.max.replace(tzinfo=UTC)


class BeyondAuthority(DomainError):
    """The caller would gain more than they hold."""

    status = 403


class OwnAccount(DomainError):
    """One's own account is not taken over by its own token alone, which may be stolen."""

    status = 403
    text = "This is your own account: use /users/me, with your password."


class LastAdmin(Conflict):
    """No admin would be left who can undo it."""

    text = "No other enabled user holds admin without end and can sign in: grant it to one first."


@dataclass(frozen=True, slots=True)
class Caller(Actor):
    """Who asks for a change: a principal. Without one, the caller may do nothing."""

    principal: Principal | None = None

    @classmethod
    def of(cls, principal: Principal, origin: Origin) -> Self:
        """Return the principal of a request as its caller."""
        return cls(principal.user_id, origin, principal)

    @property
    def session_id(self) -> uuid.UUID | None:
        """The session that the request's token belongs to."""
        return self.principal.session_id if self.principal else None

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes that the request may use."""
        return self.principal.scopes if self.principal else frozenset()

    @property
    def is_admin(self) -> bool:
        """Whether this request may do everything."""
        return ADMIN in self.scopes

    def require_own_hand(self) -> None:
        """Return only if the person acts here. Raises what `Principal.require_own_hand` raises."""
        if self.principal is not None:
            self.principal.require_own_hand()


@dataclass(frozen=True, slots=True)
class Operator(Caller):
    """The operator who runs a command: they could write into the database, so they may do all."""

    @property
    def scopes(self) -> frozenset[str]:
        """Everything."""
        return frozenset({ADMIN})


async def confirm_caller(work: Work[Caller]) -> None:
    """Return only if the caller is still enabled and signed in, and has lost no scope.

    Requests that disable them or sign them out wait for this commit. Raises InvalidToken when they
    were disabled or signed out, BeyondAuthority when they have lost a scope.
    """
    await hold_users(work.db, work.actor.user_id)
    await _held(work)


async def managed_user(
    work: Work[Caller], user_id: uuid.UUID, *, outlasts_caller: bool = False
) -> User:
    """Return the account, for a caller who may change it. It stays locked until the commit.

    `outlasts_caller`: the change may let the caller use the account later, even after they lose
    their own scopes. Raises UserNotFound, what `confirm_caller` raises, or BeyondAuthority when the
    account holds a scope that the caller lacks or, with `outlasts_caller`, holds one for longer
    than the caller. A client's account holds what the client's ceiling holds. Raises
    what `require_own_hand` raises for the caller's own account, which only they themselves change.
    """
    if user_id == work.actor.user_id:
        work.actor.require_own_hand()
    await hold_users(work.db, user_id, work.actor.user_id)
    user = await work.db.get(User, user_id, populate_existing=True)
    if user is None or user.erased_at is not None:
        raise UserNotFound
    await _require_ceiling_of(work, user_id)
    held = await _held(work)
    for each in await grants_of(work.db, user_id, now=work.now):
        end = _end(held, each.scope)
        if end <= work.now:
            raise BeyondAuthority("This account holds a scope that you don't hold.")
        if outlasts_caller and end < (each.expires_at or END_OF_TIME):
            raise BeyondAuthority("This account holds a scope for longer than you do.")
    return user


async def others_user(work: Work[Caller], user_id: uuid.UUID) -> User:
    """Return another's account, for a change by which the caller could use it later.

    As `managed_user` does with `outlasts_caller`. Raises OwnAccount too: by `/users/me` a person
    shows their password.
    """
    if user_id == work.actor.user_id:
        raise OwnAccount
    return await managed_user(work, user_id, outlasts_caller=True)


async def still_manages(
    work: Work[Actor], manager_id: uuid.UUID | None, user_id: uuid.UUID
) -> bool:
    """Return whether a user may manage an account still, by what both are granted now.

    For links that a manager has made: they may be used days later. True for an operator's, who is
    no user. The account is held.
    """
    if manager_id is None:
        return True
    manager = await work.db.get(User, manager_id)
    if manager is None or manager.disabled_at is not None:
        return False
    granted = await granted_until(work.db, manager_id, now=work.now)
    held = {scope: end or END_OF_TIME for scope, end in granted.items()}
    grants = await grants_of(work.db, user_id, now=work.now)
    return _end(held, "write:users") > work.now and all(
        _end(held, each.scope) >= (each.expires_at or END_OF_TIME) for each in grants
    )


async def _require_ceiling_of(work: Work[Caller], account_id: uuid.UUID) -> None:
    """Return only if the caller may decide about the client whose account this is, if any."""
    client = await work.db.scalar(
        select(Registration).where(
            Registration.account_id == account_id, Registration.deleted_at.is_(None)
        )
    )
    if client is not None:
        require_ceiling(work.actor, client.scopes, trusted=client.trusted)


def require_ceiling(caller: Caller, scopes: Sequence[str] | None, *, trusted: bool) -> None:
    """Return only if the caller may decide about a client with this ceiling.

    Raises BeyondAuthority.
    """
    if trusted and not caller.is_admin:
        raise BeyondAuthority("Only admins decide about a trusted client.")
    if not satisfies(caller.scopes, {ADMIN} if scopes is None else set(scopes)):
        raise BeyondAuthority("This client may use a scope that you don't hold.")


async def require_holding(work: Work[Caller], scope: str, *, until: datetime) -> None:
    """Return only if the caller holds the scope, until then at least.

    Raises BeyondAuthority, or InvalidToken when the caller was disabled or signed out meanwhile.
    """
    end = _end(await _held(work), scope)
    if end <= work.now:
        raise BeyondAuthority("You don't hold this scope.")
    if end < until:
        raise BeyondAuthority("You don't hold this scope for as long.")


async def keep_an_admin(work: Work[Actor], user_id: uuid.UUID) -> None:
    """Raise LastAdmin if this user is an admin and no other admin without an end would remain.

    Concurrent checks wait until the commit.
    """
    # If two transactions each remove one of the last two admins, one waits here and then finds no
    # other admin.
    await take_lock(work.db, Lock.LAST_ADMIN)
    admins = _admins(now=work.now)
    if not await work.db.scalar(admins.where(Grant.user_id == user_id)):
        return
    lasting = admins.where(Grant.user_id != user_id, Grant.expires_at.is_(None))
    if not await work.db.scalar(lasting):
        raise LastAdmin


async def has_lasting_admin(db: AsyncSession, *, now: datetime) -> bool:
    """Return whether an enabled account that can authenticate holds `admin` without end."""
    lasting = _admins(now=now).where(Grant.expires_at.is_(None))
    return await db.scalar(lasting) is not None


def _admins(*, now: datetime) -> Select[uuid.UUID]:
    # An account that can't authenticate can't undo anything, so it doesn't count as an admin.
    can_authenticate = or_(
        and_(User.kind == "service", exists().where(ClientSecret.user_id == User.id)),
        and_(User.kind == "person", User.password_hash.is_not(None)),
    )
    return (
        select(Grant.user_id)
        .join(User, User.id == Grant.user_id)
        .where(Grant.scope == ADMIN, in_force(now), User.disabled_at.is_(None), can_authenticate)
        .limit(1)
    )


async def _held(work: Work[Caller]) -> dict[str, datetime]:
    """Return what the caller holds, and until when.

    Read anew, in the transaction that relies on it: when authority is used, no cache will do.
    Raises InvalidToken when they were disabled or signed out since the request began, and
    BeyondAuthority when they have lost a scope since then: also one that the route asked for.
    """
    caller = work.actor
    if isinstance(caller, Operator):
        return dict.fromkeys(caller.scopes, END_OF_TIME)
    if caller.user_id is None or caller.session_id is None:
        raise InvalidToken
    # A request that signs them out waits for the commit; others of the same session don't.
    await work.db.execute(
        select(Session.id).where(Session.id == caller.session_id).with_for_update(read=True)
    )
    holder = await load_holder(work.db, caller.session_id, user_id=caller.user_id, now=work.now)
    if holder is None:
        raise InvalidToken
    if holder.principal(caller.scopes).scopes != caller.scopes:
        raise BeyondAuthority("You have just lost a scope: look again at what you hold.")
    granted = {scope: end or END_OF_TIME for scope, end in holder.granted.items()}
    return {scope: _end(granted, scope) for scope in caller.scopes}


def _end(held: Mapping[str, datetime], scope: str) -> datetime:
    """Return until when this is held: by itself, or by `admin`."""
    return max((held[name] for name in (scope, ADMIN) if name in held), default=BEGINNING_OF_TIME)
