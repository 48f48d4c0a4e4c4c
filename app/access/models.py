"""Who may do what."""

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class Scope(Base):
    """A scope that can be asked for and granted: one of ours, or another service's."""

    __tablename__ = "scopes"

    name: Mapped[str] = mapped_column(primary_key=True)
    description: Mapped[str]
    resource: Mapped[str | None]
    """The URI of the service that it belongs to (RFC 8707). None: it is in tokens for all."""


class Grant(Base):
    """A user holds a scope, until it is revoked or `expires_at` comes."""

    __tablename__ = "grants"

    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    scope: Mapped[str] = mapped_column(ForeignKey("scopes.name"), primary_key=True, index=True)
    granted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    granted_by: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    """None: by an operator's command."""
    expires_at: Mapped[datetime | None]
    reason: Mapped[str | None]
