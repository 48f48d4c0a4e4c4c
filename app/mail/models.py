"""The outbox's table."""

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, false, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Identified


class OutboxMail(Identified, Base):
    """A mail that is to be sent, or was.

    Address, names and links are in the sealed body alone, which is dropped once the mail is sent
    or given up.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        Index(
            "ix_outbox_waiting",
            "due_at",
            postgresql_where=text("sent_at IS NULL AND failed_at IS NULL"),
        ),
        Index(None, "address_digest"),
        Index(None, "user_id"),
    )

    purpose: Mapped[str]
    """The template, or what was asked for."""
    user_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    asked: Mapped[bool] = mapped_column(server_default=false())
    """Whether it is what was asked for: there is no mail, or it is not composed yet."""
    notice: Mapped[bool] = mapped_column(server_default=false())
    """Whether it tells of a change that has happened: then the hourly limit does not count it."""
    address_digest: Mapped[bytes] = mapped_column(LargeBinary)
    """A keyed digest of the address, as addresses are compared."""
    body: Mapped[str | None]
    """Address, template and values, encrypted."""
    created_at: Mapped[datetime]
    due_at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    tried_at: Mapped[datetime | None]
    """When the last attempt began."""
    sent_at: Mapped[datetime | None]
    """When the server took it, or when it turned out that there is none to send."""
    failed_at: Mapped[datetime | None]
    """When it was given up."""
    last_error: Mapped[str | None]
    """Why the last attempt failed, in words without an address."""
    claimed_by: Mapped[uuid.UUID | None]
    """The process that sends it."""
    claimed_until: Mapped[datetime | None]
    """When another process may try, unless the claim is renewed."""
