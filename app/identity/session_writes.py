"""Write sessions: keep them alive and end them. Nothing here checks authority.

Only `access`, `tokens` and this package may import it: the import contracts in pyproject.toml.
"""

import uuid
from datetime import datetime, timedelta

from sqlalchemy import (
    BindParameter,
    DateTime,
    Integer,
    Select,
    Update,
    Uuid,
    bindparam,
    func,
    select,
    update,
)

from app.audit.log import record
from app.db.changes import Change
from app.db.work import Actor, Work
from app.identity.locks import hold_users
from app.identity.models import Session, User
from app.identity.sessions import HAS_NOT_ENDED, epoch_of, is_live, of_current_epoch

USE_NOTED_AFTER = timedelta(minutes=1)
"""Since the last use that was noted: not each writes the row."""
ENDED_AT_ONCE = 500
"""Rows that one transaction ends, at most: their number must not decide whether it succeeds."""


async def keep_alive(work: Work[Actor], session_id: uuid.UUID, *, idle_until: datetime) -> None:
    """Note that the session was used just now, to the minute, and put off its end of idling."""
    await work.db.execute(
        update(Session)
        .where(
            Session.id == session_id,
            Session.last_used_at < work.now - USE_NOTED_AFTER,
            is_live(work.now),
        )
        .values(
            last_used_at=work.now,
            idle_expires_at=func.least(Session.expires_at, idle_until),
        )
        .execution_options(synchronize_session=False)
    )


async def end_session(work: Work[Actor], session_id: uuid.UUID, *, reason: str) -> bool:
    """End that session and all its tokens. False: there is none, or it has ended before."""
    work.publish(Change("session", session_id))
    user_id = await work.db.scalar(
        _ending(reason, work.now)
        .where(Session.id == session_id, HAS_NOT_ENDED)
        .returning(Session.user_id)
    )
    if user_id is None:
        return False
    record(work, "session.ended", subject=user_id, session=session_id, reason=reason)
    return True


async def end_sessions_of(
    work: Work[Actor], user_id: uuid.UUID, *, reason: str, but: uuid.UUID | None = None
) -> None:
    """End all sessions of the user except `but`, at the same cost for any number of sessions.

    A new epoch of the user ends them. Operators and the previous release read `ended_at`. This
    function writes it for at most ENDED_AT_ONCE sessions, those that expire last. Housekeeping
    writes it for the rest. The audit entry counts only those written here.
    """
    db, now = work.db, work.now
    await hold_users(db, user_id)
    work.publish(Change("user", user_id))
    if but is not None:
        # First: the trigger that says which sessions a new epoch ends must see which one stays.
        kept = update(Session).where(Session.id == but, Session.user_id == user_id)
        staying = kept.values(epoch=epoch_of(user_id) + 1)
        await db.execute(staying.execution_options(synchronize_session=False))
    epoch = await db.scalar(
        update(User)
        .where(User.id == user_id)
        .values(session_epoch=User.session_epoch + 1)
        .returning(User.session_epoch)
        .execution_options(synchronize_session=False)
    )
    if epoch is None:
        return
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
    ended = (await db.scalars(ending)).all()
    if ended:
        # How many, not which: a busy service account has thousands.
        record(work, "session.ended", subject=user_id, sessions=len(ended), reason=reason)


async def end_sessions_of_consent(
    work: Work[Actor], user_id: uuid.UUID, consent_id: uuid.UUID, *, reason: str
) -> None:
    """Write the end of a person's sessions that rest on this consent, ENDED_AT_ONCE at most.

    All of them end with the consent's row. This tells services that follow, one by one.
    """
    work.publish(Change("user", user_id))
    live = (
        select(Session.id)
        .where(of_current_epoch(user_id), Session.consent_id == consent_id, is_live(work.now))
        .limit(ENDED_AT_ONCE)
    )
    ending = _ending(reason, work.now).where(Session.id.in_(live)).returning(Session.id)
    for session_id in await work.db.scalars(ending):
        record(work, "session.ended", subject=user_id, session=session_id, reason=reason)


async def end_surplus_sessions(
    work: Work[Actor], user_id: uuid.UUID, *, most: int, but: uuid.UUID
) -> None:
    """End those of the user's live sessions that expire first, until `most` and `but` are left.

    Concurrent logins don't count each other's sessions; the next login ends the surplus.
    """
    values = {"user_id": user_id, "now": work.now, "most": most, "but": but}
    surplus = list(await work.db.scalars(_SURPLUS, values))
    if not surplus:
        return
    reason = "too many sessions"
    ended = _ending(reason, work.now).where(Session.id.in_(surplus)).returning(Session.id)
    for session_id in await work.db.scalars(ended):
        work.publish(Change("session", session_id))
        record(
            work.as_user(user_id),
            "session.ended",
            subject=user_id,
            session=session_id,
            reason=reason,
        )


def surplus_sessions(
    user_id: BindParameter[uuid.UUID], now: BindParameter[datetime], most: BindParameter[int]
) -> Select[uuid.UUID]:
    """Select the user's live sessions, those that expire last first, without the first `most`."""
    return (
        select(Session.id)
        .where(of_current_epoch(user_id), is_live(now))
        .order_by(Session.expires_at.desc(), Session.id.desc())
        .offset(most)
        .limit(ENDED_AT_ONCE)
    )


_SURPLUS = (
    surplus_sessions(
        bindparam("user_id", type_=Uuid()),
        bindparam("now", type_=DateTime(timezone=True)),
        bindparam("most", type_=Integer()),
    )
    .where(Session.id != bindparam("but", type_=Uuid()))
    .with_for_update(skip_locked=True, of=Session)
)


def _ending(reason: str, now: datetime) -> Update:
    return (
        update(Session)
        .where(Session.ended_at.is_(None))
        .values(ended_at=now, end_reason=reason)
        .execution_options(synchronize_session=False)
    )
