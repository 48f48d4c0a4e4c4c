"""Sessions: one row a login, opened, listed and ended here."""

import secrets
import uuid
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Update, and_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.audit.log import Actor, record
from app.db.changes import Change, announce
from app.errors import NotFound
from app.identity.locks import hold_users
from app.identity.models import Session

REFRESH_KEY_BYTES = 32
MAX_USER_AGENT = 400


class SessionNotFound(NotFound):
    """No such session, or not the caller's."""

    def __init__(self) -> None:
        super().__init__("There is no such session.")


def is_live(now: datetime | ColumnElement[datetime]) -> ColumnElement[bool]:
    """The condition that a session counts at that moment."""
    return and_(Session.ended_at.is_(None), Session.expires_at > now, Session.idle_expires_at > now)


async def open_session(
    session: AsyncSession,
    *,
    user_id: uuid.UUID,
    client_id: str | None,
    scopes: AbstractSet[str],
    by: Actor,
    lifetime: timedelta,
    idle_timeout: timedelta,
    now: datetime,
) -> Session:
    """A new session, of generation 0: somebody has signed in as this user."""
    opened = Session(
        id=uuid7(),  # for the audit entry, which is written with it
        user_id=user_id,
        client_id=client_id,
        scopes=sorted(scopes),
        created_at=now,
        last_used_at=now,
        expires_at=now + lifetime,
        idle_expires_at=now + min(idle_timeout, lifetime),
        address=by.address,
        user_agent=user_agent_of(by),
        generation=0,
        refresh_key=secrets.token_bytes(REFRESH_KEY_BYTES),
    )
    session.add(opened)
    record(
        session,
        "login.succeeded",
        by=by.signed_in_as(user_id),
        subject=user_id,
        session=opened.id,
        client_id=client_id,
        scopes=opened.scopes,
    )
    return opened


def user_agent_of(by: Actor) -> str | None:
    """Return the actor's user agent as a session's row keeps it; None when there is none."""
    return by.user_agent[:MAX_USER_AGENT] if by.user_agent else None


async def live_sessions(
    session: AsyncSession,
    user_id: uuid.UUID,
    *,
    after: uuid.UUID | None,
    limit: int,
    now: datetime,
) -> list[Session]:
    """Up to `limit` of the user's live sessions, oldest first, that come after the given one."""
    statement = select(Session).where(Session.user_id == user_id, is_live(now))
    if after is not None:
        statement = statement.where(Session.id > after)
    return list(await session.scalars(statement.order_by(Session.id).limit(limit)))


async def end_session(
    session: AsyncSession, session_id: uuid.UUID, *, reason: str, by: Actor, now: datetime
) -> bool:
    """End that session and all its tokens. False: there is none, or it has ended before."""
    announce(session, Change("session", session_id))
    user_id = await session.scalar(
        _ending(reason, now).where(Session.id == session_id).returning(Session.user_id)
    )
    if user_id is None:
        return False
    record(session, "session.ended", by=by, subject=user_id, session=session_id, reason=reason)
    return True


async def end_own_session(
    session: AsyncSession, session_id: uuid.UUID, *, by: Actor, now: datetime
) -> None:
    """End one of the actor's own sessions; repeating it changes nothing. Raises SessionNotFound."""
    owned = select(Session.id).where(Session.id == session_id, Session.user_id == by.user_id)
    if await session.scalar(owned) is None:
        raise SessionNotFound
    await end_session(session, session_id, reason="ended by its user", by=by, now=now)


async def end_sessions_of(
    session: AsyncSession,
    user_id: uuid.UUID,
    *,
    reason: str,
    by: Actor,
    now: datetime,
    but: uuid.UUID | None = None,
) -> None:
    """End all sessions of the user, except perhaps one."""
    await hold_users(session, user_id)
    announce(session, Change("user", user_id))
    statement = _ending(reason, now).where(Session.user_id == user_id)
    if but is not None:
        statement = statement.where(Session.id != but)
    ended = len((await session.execute(statement.returning(Session.id))).all())
    if ended:
        # How many, not which: a busy service account has thousands.
        record(session, "session.ended", by=by, subject=user_id, sessions=ended, reason=reason)


def _ending(reason: str, now: datetime) -> Update:
    return (
        update(Session)
        .where(Session.ended_at.is_(None))
        .values(ended_at=now, end_reason=reason)
        .execution_options(synchronize_session=False)
    )
