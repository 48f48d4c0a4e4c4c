"""Sessions: one row a login, opened, listed and ended here."""

import secrets
import uuid
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    DateTime,
    Integer,
    ScalarSelect,
    Select,
    Update,
    Uuid,
    and_,
    bindparam,
    exists,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from uuid_utils.compat import uuid7

from app.audit.log import Actor, record
from app.db.changes import Change, announce
from app.errors import NotFound
from app.identity.locks import hold_users
from app.identity.models import Session, User

REFRESH_KEY_BYTES = 32
MAX_USER_AGENT = 400
ENDED_AT_ONCE = 500
"""Rows that one transaction ends, at most: their number must not decide whether it succeeds."""


_OWNER = aliased(User)
# Neither was the session ended, nor were all those of its epoch, and the user is enabled. Not `==`:
# a refresh that waits for a change of password sees the session's new epoch beside the user's old
# one, because of a statement that waited Postgres reads only the row that it updates anew. Built
# once, because requests use it.
_HAS_NOT_ENDED = and_(
    Session.ended_at.is_(None),
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

    def __init__(self) -> None:
        super().__init__("There is no such session.")


def is_live(now: datetime | ColumnElement[datetime]) -> ColumnElement[bool]:
    """Return the condition that a session counts at that moment."""
    return and_(_HAS_NOT_ENDED, Session.expires_at > now, Session.idle_expires_at > now)


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
        # A trigger would set it as well, at the cost of a function call.
        epoch=_epoch_of(user_id),
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
    """Return up to `limit` of the user's live sessions, soonest to expire first.

    `after` is the session that the page before ended with.
    """
    place = tuple_(Session.expires_at, Session.id)
    statement = select(Session).where(_of_current_epoch(user_id), is_live(now))
    if after is not None:
        # Housekeeping may have removed its row by now; then all that came before it has expired.
        expires_at = select(Session.expires_at).where(
            Session.id == after, Session.user_id == user_id
        )
        came = tuple_(func.coalesce(expires_at.scalar_subquery(), now), after)
        statement = statement.where(place > came)
    return list(await session.scalars(statement.order_by(*place).limit(limit)))


def _of_current_epoch(user_id: uuid.UUID | BindParameter[uuid.UUID]) -> ColumnElement[bool]:
    """Return the condition by which the index of live sessions finds those of this user."""
    return and_(Session.user_id == user_id, Session.epoch == _epoch_of(user_id))


def _epoch_of(user_id: uuid.UUID | BindParameter[uuid.UUID]) -> ScalarSelect[int]:
    return select(User.session_epoch).where(User.id == user_id).scalar_subquery()


async def end_session(
    session: AsyncSession, session_id: uuid.UUID, *, reason: str, by: Actor, now: datetime
) -> bool:
    """End that session and all its tokens. False: there is none, or it has ended before."""
    announce(session, Change("session", session_id))
    user_id = await session.scalar(
        _ending(reason, now)
        .where(Session.id == session_id, _HAS_NOT_ENDED)
        .returning(Session.user_id)
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
    """End all sessions of the user, except perhaps one: at the same cost however many there are.

    The user's new epoch ends them. Operators and the release before look at `ended_at`: it is
    written here for those that expire last, ENDED_AT_ONCE at most, and by housekeeping for the
    rest. The audit entry counts the former.
    """
    await hold_users(session, user_id)
    announce(session, Change("user", user_id))
    epoch = await session.scalar(
        update(User)
        .where(User.id == user_id)
        .values(session_epoch=User.session_epoch + 1)
        .returning(User.session_epoch)
        .execution_options(synchronize_session=False)
    )
    if epoch is None:
        return
    if but is not None:
        kept = update(Session).where(Session.id == but, Session.user_id == user_id)
        await session.execute(kept.values(epoch=epoch).execution_options(synchronize_session=False))
    last = (
        select(Session.id)
        .where(
            Session.user_id == user_id,
            Session.epoch == epoch - 1,
            Session.ended_at.is_(None),
            Session.expires_at > now,
            Session.idle_expires_at > now,
        )
        .order_by(Session.expires_at.desc(), Session.id.desc())
        .limit(ENDED_AT_ONCE)
    )
    ending = _ending(reason, now).where(Session.id.in_(last)).returning(Session.id)
    ended = (await session.scalars(ending)).all()
    if ended:
        # How many, not which: a busy service account has thousands.
        record(session, "session.ended", by=by, subject=user_id, sessions=len(ended), reason=reason)


async def end_surplus_sessions(
    session: AsyncSession, opened: Session, *, most: int, by: Actor, now: datetime
) -> None:
    """End those of the user's live sessions that expire first, until `most` are left.

    `opened` is left in any case. Of logins at the same moment each counts without the others: the
    next one ends what is too much.
    """
    surplus = list(
        await session.scalars(
            _SURPLUS,
            {"user_id": opened.user_id, "opened": opened.id, "kept": most - 1, "now": now},
        )
    )
    if not surplus:
        return
    reason = "too many sessions"
    ended = _ending(reason, now).where(Session.id.in_(surplus)).returning(Session.id)
    for session_id in await session.scalars(ended):
        announce(session, Change("session", session_id))
        record(
            session,
            "session.ended",
            by=by,
            subject=opened.user_id,
            session=session_id,
            reason=reason,
        )


def _select_surplus() -> Select[uuid.UUID]:
    return (
        select(Session.id)
        .where(
            _of_current_epoch(bindparam("user_id", type_=Uuid())),
            is_live(bindparam("now", type_=DateTime(timezone=True))),
            Session.id != bindparam("opened", type_=Uuid()),
        )
        .order_by(Session.expires_at.desc(), Session.id.desc())
        .offset(bindparam("kept", type_=Integer()))
        .limit(ENDED_AT_ONCE)
        .with_for_update(skip_locked=True, of=Session)
    )


# Built once, because each login asks it.
_SURPLUS = _select_surplus()


def _ending(reason: str, now: datetime) -> Update:
    return (
        update(Session)
        .where(Session.ended_at.is_(None))
        .values(ended_at=now, end_reason=reason)
        .execution_options(synchronize_session=False)
    )
