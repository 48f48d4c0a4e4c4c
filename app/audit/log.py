"""The audit log: who did what to whom, written in the transaction that does it."""

import uuid
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Self

from pydantic_core import to_jsonable_python
from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.models import AuditEntry

Action = Literal[
    "login.succeeded",
    "login.failed",
    "login.throttled",
    "session.ended",
    "session.reuse_detected",
    "user.created",
    "user.changed",
    "user.disabled",
    "user.enabled",
    "password.changed",
    "grant.made",
    "grant.revoked",
    "scope.registered",
    "scope.removed",
    "key.rotated",
    "secret.made",
    "secret.revoked",
]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, and from where.

    Without a user: somebody who has not signed in, an operator's command, or the service itself.
    """

    user_id: uuid.UUID | None = None
    address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None

    def signed_in_as(self, user_id: uuid.UUID) -> Self:
        """The same, now that it is known who it is."""
        return replace(self, user_id=user_id)


def record(
    session: AsyncSession,
    action: Action,
    /,
    *,
    by: Actor,
    subject: uuid.UUID | None = None,
    **detail: object,
) -> None:
    """Add an entry, which is committed or rolled back with what it tells.

    `detail` is shown to whoever holds `read:audit`: never a password, token, hash or secret.
    """
    session.add(
        AuditEntry(
            action=action,
            actor=by.user_id,
            subject=subject,
            detail=to_jsonable_python(detail),
            address=by.address,
            request_id=by.request_id,
        )
    )


async def list_entries(
    session: AsyncSession,
    *,
    user_id: uuid.UUID | None = None,
    action: Action | None = None,
    since: datetime | None = None,
    after: uuid.UUID | None = None,
    limit: int,
) -> list[AuditEntry]:
    """Up to `limit` entries, newest first, that come after the given one.

    `user_id` narrows them to what that user did or had done to them, `since` to what is no older.
    """
    statement = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
    if user_id is not None:
        statement = statement.where(or_(AuditEntry.actor == user_id, AuditEntry.subject == user_id))
    if action is not None:
        statement = statement.where(AuditEntry.action == action)
    if since is not None:
        statement = statement.where(AuditEntry.at >= since)
    if after is not None:
        statement = statement.where(AuditEntry.id < after)
    return list(await session.scalars(statement))
