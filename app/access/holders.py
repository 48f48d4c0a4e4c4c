"""Holders and principals: who a live session stands for, and what a token of it may do now."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, Uuid, bindparam, case, exists, func, select

from app.access.client_limits import ClientLimit, limit_on, read_limit
from app.access.holdings import Granted, granted_to, in_force, read_granted
from app.access.models import Grant, Scope
from app.access.scopes import ADMIN, IDENTITY, satisfies
from app.db.work import Reader
from app.errors import DomainError, InsufficientScope
from app.identity.models import Session, User
from app.identity.sessions import is_live


class NotForTokens(DomainError):
    """A personal access token may do much for a person, but not change their account."""

    status = 403
    text = "A personal access token can't do this: sign in to do it."


class NotForThirdParties(DomainError):
    """A client may do much for a person, but not change their account."""

    status = 403
    text = "Applications that you have let in can't do this: do it yourself."


@dataclass(frozen=True, slots=True)
class Holder:
    """The user behind a live session and what they hold: the same for each of its tokens."""

    user_id: uuid.UUID
    session_id: uuid.UUID
    username: str
    kind: str
    created_at: datetime
    email: str | None
    email_verified: bool
    granted: Granted
    held: frozenset[str]
    """What is granted; with `admin`, every registered scope too. Within the client's limit.

    For a client's tokens, the scopes of OpenID Connect that the person has consented to as well.
    """
    session_ends_at: datetime
    ends_at: datetime
    """When the first of all this ends by itself: the session, or a grant."""
    limit: ClientLimit | None = None
    """What bounds a registered client's tokens."""
    is_token: bool = False
    """Whether the session is a personal access token, and no login."""

    @property
    def is_third_party(self) -> bool:
        """Whether the session is one of a registered client that is not trusted."""
        return self.limit is not None and not self.limit.trusted

    def principal(self, token_scopes: frozenset[str]) -> "Principal":
        """Return what a token of these scopes stands for: the token's scopes ∩ held now."""
        return Principal(self, self.held & token_scopes)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request, with what they hold at this moment and what the token lets them use."""

    holder: Holder
    scopes: frozenset[str]
    """Effective: the token's scopes that are granted now."""

    @property
    def user_id(self) -> uuid.UUID:
        """The user."""
        return self.holder.user_id

    @property
    def session_id(self) -> uuid.UUID:
        """The user's session that the token belongs to."""
        return self.holder.session_id

    @property
    def username(self) -> str:
        """The user's name."""
        return self.holder.username

    @property
    def is_admin(self) -> bool:
        """Whether this request may do everything."""
        return ADMIN in self.scopes

    def require(self, required: tuple[str, ...]) -> None:
        """Return only if every required scope is effective; else raise InsufficientScope."""
        if not satisfies(self.scopes, required):
            raise InsufficientScope(required)

    def require_own_hand(self) -> None:
        """Return only if the person acts here, who has signed in.

        Raises NotForThirdParties for another's client, and NotForTokens for a personal access
        token.
        """
        if self.holder.is_token:
            raise NotForTokens
        if self.holder.is_third_party:
            raise NotForThirdParties


def select_holder(*also: ColumnElement[bool]) -> Select[Any]:
    """Return the statement that `load_holder` runs, with further conditions."""
    user_id, now = bindparam("user_id", type_=Uuid()), bindparam("now", type_=Session.ended_at.type)
    administers = exists().where(Grant.user_id == user_id, Grant.scope == ADMIN, in_force(now))
    registered = select(func.array_agg(Scope.name)).scalar_subquery()
    return (
        select(
            User.username,
            User.kind,
            User.created_at,
            User.email,
            User.email_verified_at.is_not(None),
            granted_to(user_id, now).scalar_subquery(),
            case((administers, registered)),
            func.least(Session.expires_at, Session.idle_expires_at),
            limit_on(Session.consent_id).scalar_subquery(),
            Session.token_name.is_not(None),
        )
        .join(Session)
        .where(
            Session.id == bindparam("session_id"),
            User.id == user_id,
            is_live(now),
            *also,
        )
    )


# Built once: to build it costs as much as to ask the database.
_HOLDER = select_holder()


async def load_holder(
    db: Reader,
    session_id: uuid.UUID,
    *,
    user_id: uuid.UUID,
    now: datetime,
    by: Select[Any] | None = None,
    **also: object,
) -> Holder | None:
    """The holder as the database has it now, by one indexed query.

    None when this user has no such session, it has ended, or the user is gone or disabled; or when
    a further condition of the statement `by` does not hold, whose values are in `also`.
    """
    values = {"session_id": session_id, "user_id": user_id, "now": now, **also}
    row = (await db.execute(_HOLDER if by is None else by, values)).one_or_none()
    if row is None:
        return None
    username, kind, created_at, email, verified, *rest = row
    found, of_admin, session_ends_at, limited, is_token = rest
    granted, limit = read_granted(found), read_limit(limited)
    held = frozenset(granted).union(of_admin or ())
    return Holder(
        user_id=user_id,
        session_id=session_id,
        username=username,
        kind=kind,
        created_at=created_at,
        email=email,
        email_verified=verified,
        granted=granted,
        held=limit.of(held | IDENTITY.keys()) if limit else held,
        session_ends_at=session_ends_at,
        ends_at=min([session_ends_at, *filter(None, granted.values())]),
        limit=limit,
        is_token=is_token,
    )
