"""What the audit log tells, read from its table."""

import uuid
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.actions import Action
from app.audit.models import AuditEntry

Told = tuple[uuid.UUID | None, uuid.UUID | None, dict[str, Any]]
"""By whom, to whom, and the rest."""


async def told(session: AsyncSession, action: Action) -> list[Told]:
    """The entries of this action, oldest first."""
    entries = select(AuditEntry).where(AuditEntry.action == action).order_by(AuditEntry.id)
    return [(each.actor, each.subject, each.detail) for each in await session.scalars(entries)]
