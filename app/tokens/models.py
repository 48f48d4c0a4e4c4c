"""The keys that tokens are signed with, and the access tokens that are not signed."""

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey, String, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created


class SigningKey(Created, Base):
    """One key of one algorithm. The private part is readable only with the service's secret."""

    __tablename__ = "signing_keys"

    kid: Mapped[str] = mapped_column(primary_key=True)
    algorithm: Mapped[str]
    encrypted_private_key: Mapped[str]
    signs_from: Mapped[datetime] = mapped_column(server_default=func.now())
    """Published before, so that clients that cache the JWKS know the key when it is first used."""
    retires_at: Mapped[datetime | None]
    """From then on it verifies nothing. None: it has not been replaced."""


class OpaqueToken(Base):
    """An access token that is a random string: what it says stands here, the string does not."""

    __tablename__ = "opaque_tokens"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    session_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("sessions.id", ondelete="CASCADE"), index=True
    )
    token_id: Mapped[uuid.UUID]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String))
    issued_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
