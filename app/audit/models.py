"""The audit log's table."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Index, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Identified


class AuditEntry(Identified, Base):
    """Who did what to whom. Postgres refuses to change one, or to remove a young one.

    It names users by their ids and by no foreign key: what was done stays told, whatever becomes
    of them.
    """

    __tablename__ = "audit_entries"
    __table_args__ = (
        Index(None, "action", "id"),
        Index(None, "actor", "id"),
        Index(None, "subject", "id"),
        # Rows come in the order of this column: a few bytes a hundred pages will do.
        Index(None, "at", postgresql_using="brin"),
    )

    at: Mapped[datetime] = mapped_column(server_default=func.now())
    action: Mapped[str]
    actor: Mapped[uuid.UUID | None]
    subject: Mapped[uuid.UUID | None]
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB)
    address: Mapped[str | None]
    request_id: Mapped[str | None]
