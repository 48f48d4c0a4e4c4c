"""Detect that this process's database may lack a session that another process just opened.

During a switchover, another process may already use the new primary. Until its next survey this
process still uses the old one, and must not report such a session as ended.
"""

import uuid
from datetime import datetime, timedelta

from sqlalchemy import Select, select

from app.audit.models import AuditEntry
from app.db.work import Reader
from app.errors import Unavailable
from app.identity.models import Session

ENTRY_WITHIN = 10_000
"""Milliseconds after a session's id is made, that of its audit entry is."""


class MaybeBehind(Unavailable):
    """This process's database may lack what another process has just committed."""

    text = "This process may not know of the latest changes: try again in a moment."


async def require_known(
    db: Reader, session_id: uuid.UUID, *, age: timedelta, bound: timedelta
) -> None:
    """Raise MaybeBehind if there is no such session, though it should be younger than `bound`.

    One that was erased with its user is known by its entry in the audit log.
    """
    if abs(age) > bound:
        return
    if await db.scalar(select(Session.id).where(Session.id == session_id)) is not None:
        return
    if await db.scalar(_opened(session_id)) is None:
        raise MaybeBehind


def _opened(session_id: uuid.UUID) -> Select[uuid.UUID]:
    """Return the statement that finds the audit entry of the login, or of the token's making."""
    # Both ids are UUIDv7s. The entry's was made right after, so few entries are looked through.
    first = session_id.int >> 80 << 80
    last = min(first + (ENTRY_WITHIN << 80), (1 << 128) - 1)
    return select(AuditEntry.id).where(
        AuditEntry.action.in_(["login.succeeded", "token.made"]),
        AuditEntry.id.between(uuid.UUID(int=first), uuid.UUID(int=last)),
        AuditEntry.detail["session"].astext == str(session_id),
    )


def age_of(session_id: uuid.UUID, *, now: datetime) -> timedelta:
    """Return a session's age by the time in its UUIDv7 (RFC 9562 §5.7), set by its opener."""
    return timedelta(seconds=now.timestamp() - (session_id.int >> 80) / 1000)
