"""What operators see of the outbox, and how they have it sent at once."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.work import Actor, Work
from app.mail.claims import WAITING, is_free
from app.mail.models import OutboxMail

State = Literal["waiting", "sent", "failed"]


@dataclass(frozen=True, slots=True)
class ListedMail:
    """A mail without its content and its address."""

    id: uuid.UUID
    purpose: str
    state: State
    created_at: datetime
    due_at: datetime | None
    """When it is tried next, if it waits."""
    ended_at: datetime | None
    attempts: int
    error: str | None

    @classmethod
    def of(cls, row: OutboxMail) -> "ListedMail":
        """Return what is shown of this row."""
        state: State = "sent" if row.sent_at else "failed" if row.failed_at else "waiting"
        return cls(
            id=row.id,
            purpose=row.purpose,
            state=state,
            created_at=row.created_at,
            due_at=row.due_at if state == "waiting" else None,
            ended_at=row.sent_at or row.failed_at,
            attempts=row.attempts,
            error=row.last_error,
        )


async def list_mails(
    db: AsyncSession, *, state: State | None = None, limit: int
) -> Sequence[ListedMail]:
    """Return up to `limit` mails, the newest first."""
    conditions = {
        "waiting": WAITING,
        "sent": OutboxMail.sent_at.is_not(None),
        "failed": OutboxMail.failed_at.is_not(None),
    }
    statement = select(OutboxMail).order_by(OutboxMail.id.desc()).limit(limit)
    if state is not None:
        statement = statement.where(conditions[state])
    return [ListedMail.of(row) for row in await db.scalars(statement)]


async def retry_now(work: Work[Actor]) -> int:
    """Make every mail due that waits and is not being sent; return how many these are.

    What was given up has no content any more, so it stays as it is.
    """
    due = update(OutboxMail).where(WAITING, is_free(work.now)).values(due_at=work.now)
    return len((await work.db.execute(due.returning(OutboxMail.id))).all())
