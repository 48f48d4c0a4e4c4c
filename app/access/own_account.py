"""What users do to their own account."""

import math
import uuid
from datetime import timedelta

from sqlalchemy import select

from app.access.authority import Caller
from app.audit.log import first_id_at, record
from app.audit.models import AuditEntry
from app.db.work import Actor, Work
from app.errors import InvalidToken, Unavailable
from app.identity.locks import hold_users
from app.identity.models import Session
from app.identity.session_writes import end_session, end_sessions_of
from app.identity.sessions import SessionNotFound, is_live

EXPORTS, EXPORTS_PERIOD = 5, timedelta(hours=1)
"""How many exports a person may make, and in which time."""


async def end_own_session(work: Work[Actor], session_id: uuid.UUID) -> None:
    """End one of the actor's own sessions; repeating it changes nothing. Raises SessionNotFound."""
    owned = select(Session.id).where(
        Session.id == session_id, Session.user_id == work.actor.user_id
    )
    if await work.db.scalar(owned) is None:
        raise SessionNotFound
    await end_session(work, session_id, reason="ended by its user")


async def end_own_sessions(work: Work[Actor]) -> None:
    """End all sessions of the actor, this one too."""
    assert work.actor.user_id is not None
    await end_sessions_of(work, work.actor.user_id, reason="ended by its user")


class TooManyExports(Unavailable):
    """An export reads all that is kept about a person: it is not for polling."""

    status = 429
    text = f"There were {EXPORTS} exports within an hour: try again later."

    def __init__(self, wait: timedelta) -> None:
        super().__init__()
        self.retry_after = math.ceil(wait / timedelta(seconds=1))


async def begin_export(work: Work[Caller], *, session_id: uuid.UUID) -> None:
    """Return if the caller may now export what is kept about them, and audit that they do.

    Raises NotForThirdParties, TooManyExports, or InvalidToken when this session has ended.
    """
    work.actor.require_own_hand()
    user_id = work.actor.user_id
    # Of several at once, each counts those before it.
    await hold_users(work.db, user_id)
    if not await work.db.scalar(select(is_live(work.now)).where(Session.id == session_id)):
        raise InvalidToken
    earlier = (
        select(AuditEntry.at)
        .where(
            AuditEntry.subject == user_id,
            AuditEntry.action == "account.exported",
            AuditEntry.at > work.now - EXPORTS_PERIOD,
            # Ids are in the order of time: so only the newest entries are looked at. Processes'
            # clocks may differ.
            AuditEntry.id >= first_id_at(work.now - 2 * EXPORTS_PERIOD),
        )
        .order_by(AuditEntry.id.desc())
        .limit(EXPORTS)
    )
    moments = (await work.db.scalars(earlier)).all()
    if len(moments) >= EXPORTS:
        raise TooManyExports(moments[-1] + EXPORTS_PERIOD - work.now)
    record(work, "account.exported", subject=user_id)
