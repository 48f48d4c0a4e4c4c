"""Who there is."""

from datetime import datetime

from sqlalchemy import CheckConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created, Identified


class User(Identified, Created, Base):
    """A person, or a service account. Never deleted by the service: disabled."""

    __tablename__ = "users"
    __table_args__ = (CheckConstraint("kind IN ('person', 'service')", name="kind"),)

    username: Mapped[str]
    username_key: Mapped[str] = mapped_column(unique=True)
    """The name as it is compared: see `identity.users.username_key`."""
    kind: Mapped[str] = mapped_column(server_default=text("'person'"))
    password_hash: Mapped[str | None]
    disabled_at: Mapped[datetime | None]
