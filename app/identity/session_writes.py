"""Write sessions: keep them alive and end them. Nothing here checks authority.

Only `access`, `tokens` and this package may import it: the import contracts in pyproject.toml.
"""

import uuid
from datetime import datetime, timedelta

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    DateTime,
    Integer,
    Select,
    Update,
    Uuid,
    bindparam,
    delete,
    func,
    literal,
    select,
    union_all,
    update,
)

from app.audit.actions import Action
from app.audit.log import record
from app.db.changes import Change
from app.db.work import Actor, Work
from app.identity.locks import hold_users
from app.identity.models import PersonalToken, Session, User
from app.identity.sessions import HAS_NOT_ENDED, is_live, of_current_epoch

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
    ending = _ending(reason, work.now).where(Session.id == session_id, HAS_NOT_ENDED)
    returned = ending.returning(Session.user_id, Session.token_name.is_not(None))
    row = (await work.db.execute(returned)).one_or_none()
    if row is None:
        return False
    user_id, is_token = row
    if is_token:
        await _drop_tokens(work, PersonalToken.session_id == session_id)
    action: Action = "token.revoked" if is_token else "session.ended"
    record(work, action, subject=user_id, session=session_id, reason=reason)
    return True


async def end_sessions_of(
    work: Work[Actor],
    user_id: uuid.UUID,
    *,
    reason: str,
    but: uuid.UUID | None = None,
    keep_tokens: bool = False,
) -> None:
    """End all sessions of the user except `but`, at the same cost for any number of sessions.

    Personal access tokens end too, unless `keep_tokens` says otherwise.

    A new epoch of the user ends them. Operators and the previous release read `ended_at`. This
    function writes it for at most ENDED_AT_ONCE sessions, those that expire last. Housekeeping
    writes it for the rest. The audit entry counts only those written here.
    """
    db, now = work.db, work.now
    await hold_users(db, user_id)
    work.publish(Change("user", user_id))
    # First: the trigger that says which sessions a new epoch ends must see which ones stay.
    await _move_to_next_epoch(work, user_id, but=but, tokens=keep_tokens)
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
    if not keep_tokens:
        # Those that have expired go with their sessions: there may be any number of them.
        await _drop_tokens(work, PersonalToken.user_id == user_id, PersonalToken.expires_at > now)
    if ended:
        # How many, not which: a busy service account has thousands.
        record(work, "session.ended", subject=user_id, sessions=len(ended), reason=reason)


async def _move_to_next_epoch(
    work: Work[Actor], user_id: uuid.UUID, *, but: uuid.UUID | None, tokens: bool
) -> None:
    """Let these of the user's live sessions outlast the epoch: `but`, and personal tokens.

    One statement, which looks through no logins: there may be any number of those.
    """
    staying = []
    if but is not None:
        staying.append(select(literal(but, Uuid())))
    if tokens:
        of_user = PersonalToken.user_id == user_id, PersonalToken.expires_at > work.now
        staying.append(select(PersonalToken.session_id).where(*of_user))
    if not staying:
        return
    moving = (
        update(Session)
        .where(
            Session.id.in_(union_all(*staying)),
            of_current_epoch(user_id),
            Session.ended_at.is_(None),
        )
        .values(epoch=Session.epoch + 1)
    )
    await work.db.execute(moving.execution_options(synchronize_session=False))


async def _drop_tokens(work: Work[Actor], *which: ColumnElement[bool]) -> None:
    """Forget the secrets of personal tokens that have just ended: a row is kept of live ones only.

    So a person has few, however many they have made and revoked.
    """
    dropping = delete(PersonalToken).where(*which)
    await work.db.execute(dropping.execution_options(synchronize_session=False))


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
    """End those of the user's live logins that expire first, until `most` and `but` are left.

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
    """Select the user's live logins, those that expire last first, without the first `most`.

    Personal access tokens are none: a person has a limited number of them in any case.
    """
    return (
        select(Session.id)
        .where(of_current_epoch(user_id), is_live(now), Session.token_name.is_(None))
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
