"""Write sessions: open them and end them. Nothing here checks authority.

Only `access`, `tokens` and this package may import it: the import contracts in pyproject.toml.
"""

import secrets
import uuid
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta

from sqlalchemy import DateTime, Integer, Select, Update, Uuid, bindparam, or_, select, update
from uuid_utils.compat import uuid7

from app.audit.log import record
from app.db.changes import Change
from app.db.work import Actor, Work
from app.identity.locks import hold_users
from app.identity.models import Session, User
from app.identity.sessions import HAS_NOT_ENDED, epoch_of, is_live, of_current_epoch, user_agent_of

REFRESH_KEY_BYTES = 32
SIGN_IN_NOTED_AFTER = timedelta(minutes=1)
"""Since the last sign-in that was noted: of a busy service account's, not each writes its row."""
ENDED_AT_ONCE = 500
"""Rows that one transaction ends, at most: their number must not decide whether it succeeds."""


async def open_session(
    work: Work[Actor],
    *,
    user_id: uuid.UUID,
    client_id: str | None,
    scopes: AbstractSet[str],
    lifetime: timedelta,
    idle_timeout: timedelta,
) -> Session:
    """Add a session of generation 0 for a user who has signed in, and note when that was."""
    opened = Session(
        id=uuid7(),  # for the audit entry, which is written with it
        user_id=user_id,
        # A trigger would set it as well, at the cost of a function call.
        epoch=epoch_of(user_id),
        client_id=client_id,
        scopes=sorted(scopes),
        created_at=work.now,
        last_used_at=work.now,
        expires_at=work.now + lifetime,
        idle_expires_at=work.now + min(idle_timeout, lifetime),
        address=work.actor.origin.address,
        user_agent=user_agent_of(work.actor),
        generation=0,
        refresh_key=secrets.token_bytes(REFRESH_KEY_BYTES),
    )
    work.db.add(opened)
    earlier = work.now - SIGN_IN_NOTED_AFTER
    await work.db.execute(_NOTE_SIGN_IN, {"whose": user_id, "now": work.now, "earlier": earlier})
    record(
        work.as_user(user_id),
        "login.succeeded",
        subject=user_id,
        session=opened.id,
        client_id=client_id,
        scopes=opened.scopes,
    )
    return opened


def _update_last_sign_in() -> Update:
    noted, moment = User.last_sign_in_at, DateTime(timezone=True)
    due = or_(noted.is_(None), noted < bindparam("earlier", type_=moment))
    return (
        update(User)
        .where(User.id == bindparam("whose", type_=Uuid()), due)
        .values(last_sign_in_at=bindparam("now", type_=moment))
        .execution_options(synchronize_session=False)
    )


# Built once, because each login asks it.
_NOTE_SIGN_IN = _update_last_sign_in()


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
    epoch = await db.scalar(
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
        await db.execute(kept.values(epoch=epoch).execution_options(synchronize_session=False))
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


async def end_surplus_sessions(work: Work[Actor], opened: Session, *, most: int) -> None:
    """End those of the user's live sessions that expire first, until `most` are left.

    `opened` is never ended. Concurrent logins don't count each other's sessions; the next login
    ends the surplus.
    """
    surplus = list(
        await work.db.scalars(
            _SURPLUS,
            {"user_id": opened.user_id, "opened": opened.id, "kept": most - 1, "now": work.now},
        )
    )
    if not surplus:
        return
    reason = "too many sessions"
    ended = _ending(reason, work.now).where(Session.id.in_(surplus)).returning(Session.id)
    for session_id in await work.db.scalars(ended):
        work.publish(Change("session", session_id))
        record(
            work.as_user(opened.user_id),
            "session.ended",
            subject=opened.user_id,
            session=session_id,
            reason=reason,
        )


def _select_surplus() -> Select[uuid.UUID]:
    return (
        select(Session.id)
        .where(
            of_current_epoch(bindparam("user_id", type_=Uuid())),
            is_live(bindparam("now", type_=DateTime(timezone=True))),
            Session.id != bindparam("opened", type_=Uuid()),
        )
        .order_by(Session.expires_at.desc(), Session.id.desc())
        .offset(bindparam("kept", type_=Integer()))
        .limit(ENDED_AT_ONCE)
        .with_for_update(skip_locked=True, of=Session)
    )


# Built once, because each login runs it.
_SURPLUS = _select_surplus()


def _ending(reason: str, now: datetime) -> Update:
    return (
        update(Session)
        .where(Session.ended_at.is_(None))
        .values(ended_at=now, end_reason=reason)
        .execution_options(synchronize_session=False)
    )
