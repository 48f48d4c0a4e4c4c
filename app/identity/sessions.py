"""Sessions: one row a login. When one counts, and which there are."""

import uuid
from datetime import datetime

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    ScalarSelect,
    and_,
    exists,
    func,
    or_,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.db.work import Actor
from app.errors import NotFound
from app.identity.models import Consent, Registration, Session, User

MAX_USER_AGENT = 400


_OWNER = aliased(User)
# A session of a registered client ends with its consent and with its client. Neither writes the
# session's row: a client may have millions.
_HAS_ITS_CONSENT = or_(
    Session.consent_id.is_(None),
    exists()
    .where(
        Consent.id == Session.consent_id,
        Registration.id == Consent.registration_id,
        Registration.deleted_at.is_(None),
    )
    .correlate(Session),
)
# The session has not ended, its epoch has not ended, and the user is enabled. `<=` and not `==`:
# when a refresh has waited for a password change, Postgres re-reads only the row that it updates.
# It then sees the session's new epoch with the user's old one. Built once, because requests use it.
HAS_NOT_ENDED = and_(
    Session.ended_at.is_(None),
    _HAS_ITS_CONSENT,
    exists()
    .where(
        _OWNER.id == Session.user_id,
        _OWNER.session_epoch <= Session.epoch,
        _OWNER.disabled_at.is_(None),
    )
    .correlate(Session),
)


class SessionNotFound(NotFound):
    """No such session, or not the caller's."""

    text = "There is no such session."


def is_live(now: datetime | ColumnElement[datetime]) -> ColumnElement[bool]:
    """Return the condition that a session counts at that moment."""
    return and_(HAS_NOT_ENDED, Session.expires_at > now, Session.idle_expires_at > now)


def user_agent_of(actor: Actor) -> str | None:
    """Return the actor's user agent as a session's row keeps it; None when there is none."""
    return actor.origin.user_agent[:MAX_USER_AGENT] if actor.origin.user_agent else None


async def live_sessions(
    db: AsyncSession,
    user_id: uuid.UUID,
    *,
    after: uuid.UUID | None,
    limit: int,
    now: datetime,
    tokens_only: bool = False,
) -> list[Session]:
    """Return up to `limit` of the user's live sessions. The one that expires first comes first.

    `after` is the session that the page before ended with. `tokens_only`: personal access tokens.
    """
    place = tuple_(Session.expires_at, Session.id)
    statement = select(Session).where(of_current_epoch(user_id), is_live(now))
    if tokens_only:
        statement = statement.where(Session.token_name.is_not(None))
    if after is not None:
        # Housekeeping may have removed its row by now; then all that came before it has expired.
        expires_at = select(Session.expires_at).where(
            Session.id == after, Session.user_id == user_id
        )
        came = tuple_(func.coalesce(expires_at.scalar_subquery(), now), after)
        statement = statement.where(place > came)
    return list(await db.scalars(statement.order_by(*place).limit(limit)))


def of_current_epoch(user_id: uuid.UUID | BindParameter[uuid.UUID]) -> ColumnElement[bool]:
    """Return the condition that lets the index of live sessions find those of this user."""
    return and_(Session.user_id == user_id, Session.epoch == epoch_of(user_id))


def epoch_of(user_id: uuid.UUID | BindParameter[uuid.UUID]) -> ScalarSelect[int]:
    return select(User.session_epoch).where(User.id == user_id).scalar_subquery()


async def owner_of(db: AsyncSession, session_id: uuid.UUID) -> uuid.UUID:
    """Return whose session it is. Raises SessionNotFound."""
    user_id = await db.scalar(select(Session.user_id).where(Session.id == session_id))
    if user_id is None:
        raise SessionNotFound
    return user_id
