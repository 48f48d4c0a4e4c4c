"""Personal access tokens: which a person may make, and their end. What they look like: `tokens`."""

import secrets
import unicodedata
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import exists, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.access.authority import BeyondAuthority, Caller, confirm_caller, managed_user
from app.access.scopes import (
    ADMIN,
    MAX_SCOPES_BYTES,
    format_scope,
    require_registered,
    satisfies,
)
from app.audit.log import record
from app.db.base import is_storable
from app.db.work import Actor, Work
from app.errors import Conflict, InvalidToken, NotFound, Refused
from app.identity.locks import hold_users
from app.identity.models import PersonalToken, Session
from app.identity.session_opening import TokenSecret, open_token_session
from app.identity.session_writes import end_session
from app.identity.sessions import is_live, user_agent_of

MOST_TOKENS = 100
"""Live ones of a person."""
MAX_TOKEN_NAME = 100
"""Characters."""
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols that show nothing."""


class TokenNotFound(NotFound):
    """No such personal access token, or not this person's."""

    text = "There is no such access token."


class TooManyTokens(Conflict):
    """The person has as many live tokens as a person may have."""

    text = f"You have {MOST_TOKENS} access tokens: revoke one first."


class AdminNotConfirmed(Refused):
    """The token would have `admin`, and the person has not said that they mean it."""

    text = "A token with admin may do everything: confirm that by confirm_admin."


class FormUsed(Conflict):
    """The form has made a token already: perhaps the page was loaded again."""

    text = (
        "This form has made a token already. If you have not kept it, revoke it and make another."
    )


@dataclass(frozen=True, slots=True)
class NewToken:
    """A personal access token to make."""

    name: str
    scopes: frozenset[str]
    expires_at: datetime
    confirm_admin: bool = False
    """Whether the person has said that they mean `admin`."""


async def add_token(
    work: Work[Caller], new: NewToken, secret: TokenSecret, *, longest: timedelta
) -> Session:
    """Add a personal access token of the caller's own, and return its session.

    A caller names only scopes that they hold now. What counts of them at a request is what is
    granted then. Raises what `require_own_hand` raises, BeyondAuthority for a scope that the caller
    lacks, ScopeNotRegistered, TooManyTokens, FormUsed, Refused for a service account or an unfit
    name, end or list of scopes, and InvalidToken when the caller was signed out meanwhile.
    """
    work.actor.require_own_hand()
    principal = work.actor.principal
    if principal is None:
        raise InvalidToken
    if principal.holder.kind != "person":
        raise Refused("Only people have personal access tokens: a service account has secrets.")
    name = _check_name(new.name)
    _check_terms(new, now=work.now, longest=longest)
    await confirm_caller(work)
    if not satisfies(principal.scopes, new.scopes):
        raise BeyondAuthority("You don't hold one of these scopes, or this request may not use it.")
    await require_registered(work.db, new.scopes)
    await _require_room(work, principal.user_id)
    session = _session_of(work, principal.user_id, name, new)
    try:
        async with work.savepoint():
            await open_token_session(work, session, secret, maker=principal.session_id)
    except IntegrityError:
        raise FormUsed from None
    record(
        work,
        "token.made",
        subject=principal.user_id,
        session=session.id,
        # Not its name: the log keeps no text that a person has chosen.
        scopes=session.scopes,
        expires_at=session.expires_at,
    )
    return session


async def revoke_own_token(work: Work[Actor], token_id: uuid.UUID) -> None:
    """End a token of the actor's own; repeating it changes nothing. Raises TokenNotFound."""
    assert work.actor.user_id is not None
    await _require_token(work.db, token_id, of=work.actor.user_id)
    await hold_users(work.db, work.actor.user_id)
    await end_session(work, token_id, reason="revoked by its user")


async def revoke_token_of(
    work: Work[Caller], user_id: uuid.UUID, token_id: uuid.UUID, *, reason: str
) -> None:
    """End a token of this account; repeating it changes nothing.

    Raises UserNotFound, BeyondAuthority, or TokenNotFound for what is no token of this account.
    """
    await managed_user(work, user_id)
    await _require_token(work.db, token_id, of=user_id)
    await end_session(work, token_id, reason=reason)


async def _require_token(db: AsyncSession, token_id: uuid.UUID, *, of: uuid.UUID) -> None:
    token = select(Session.id).where(
        Session.id == token_id, Session.user_id == of, Session.token_name.is_not(None)
    )
    if await db.scalar(token) is None:
        raise TokenNotFound


async def _require_room(work: Work[Caller], user_id: uuid.UUID) -> None:
    live = exists().where(Session.id == PersonalToken.session_id, is_live(work.now))
    mine = PersonalToken.user_id == user_id, PersonalToken.expires_at > work.now
    # The caller is held: of two who ask at once, one counts after the other.
    count = await work.db.scalar(select(func.count()).where(*mine, live))
    if count is not None and count >= MOST_TOKENS:
        raise TooManyTokens


def _check_name(name: str) -> str:
    """Return the name as it is kept. Raises Refused."""
    shown = name.strip()
    if not 1 <= len(shown) <= MAX_TOKEN_NAME:
        raise Refused(f"A token's name has 1 to {MAX_TOKEN_NAME} characters.")
    if not (is_storable(shown) and shown.isprintable()) or all(map(_is_blank, shown)):
        raise Refused("A token's name is text that can be seen: you will know the token by it.")
    return shown


def _is_blank(character: str) -> bool:
    return character in _BLANK or unicodedata.category(character)[0] in "MZC"


def _check_terms(new: NewToken, *, now: datetime, longest: timedelta) -> None:
    """Return only if the end and the scopes are fit for a token. Raises Refused."""
    if not new.scopes:
        raise Refused("Name at least one scope: a token without scopes could do nothing.")
    if len(format_scope(new.scopes)) > MAX_SCOPES_BYTES:
        raise Refused(f"The scopes are longer than {MAX_SCOPES_BYTES} bytes: name fewer.")
    if new.expires_at <= now:
        raise Refused("This end is past: a token ends in the future.")
    if new.expires_at > now + longest:
        days = longest / timedelta(days=1)
        raise Refused(f"This end is too far: a token lives for {days:g} days at most.")
    if ADMIN in new.scopes and not new.confirm_admin:
        raise AdminNotConfirmed


def _session_of(work: Work[Caller], user_id: uuid.UUID, name: str, new: NewToken) -> Session:
    return Session(
        id=uuid7(),
        user_id=user_id,
        scopes=sorted(new.scopes),
        created_at=work.now,
        last_used_at=work.now,
        expires_at=new.expires_at,
        # It ends at its end, however long it is unused.
        idle_expires_at=new.expires_at,
        address=work.actor.origin.address,
        user_agent=user_agent_of(work.actor),
        # A row has one. No refresh token is made of it.
        refresh_key=secrets.token_bytes(32),
        generation=0,
        token_name=name,
    )
