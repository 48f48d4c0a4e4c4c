"""What users do to their own account."""

import uuid

from sqlalchemy import select

from app.db.work import Actor, Work
from app.identity.models import Session
from app.identity.session_writes import end_session, end_sessions_of
from app.identity.sessions import SessionNotFound


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
