"""The keys that tokens are signed with, and the access tokens that are not signed."""

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey, String, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created

ACCESS_TOKENS, ID_TOKENS = "access tokens", "ID tokens"


class SigningKey(Created, Base):
    """One key of one algorithm. The private part is readable only with the service's secret."""

    __tablename__ = "signing_keys"

    kid: Mapped[str] = mapped_column(primary_key=True)
    algorithm: Mapped[str]
    purpose: Mapped[str] = mapped_column(server_default=text(f"'{ACCESS_TOKENS}'"))
    """What it signs. It verifies all: the previous release knows no purposes."""
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
    audience: Mapped[str | None]
    """The resource that it is for; None: this issuer's audience."""
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String))
    issued_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class AuthorizationCode(Base):
    """What a code stands for (RFC 6749 §4.1). The code itself is kept nowhere."""

    __tablename__ = "authorization_codes"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    ticket: Mapped[bytes | None] = mapped_column(unique=True)
    """Of the consent page that it came from: no page gives two codes."""
    consent_id: Mapped[uuid.UUID]
    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    registration_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("clients.id"), index=True)
    browser_session_id: Mapped[uuid.UUID]
    """The code is void when this session ends."""
    epoch: Mapped[int]
    """The user's `session_epoch`. The code is void in another one, which a new password begins."""
    redirect_uri: Mapped[str | None]
    """As the request had it; None: the request left it out."""
    challenge: Mapped[str]
    nonce: Mapped[str | None]
    signed_in_at: Mapped[datetime]
    """When the person had shown who they are, before they got the code."""
    methods: Mapped[list[str]] = mapped_column(ARRAY(String))
    """By what."""
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String))
    resources: Mapped[list[str] | None] = mapped_column(ARRAY(String))
    expires_at: Mapped[datetime] = mapped_column(index=True)
    redeemed_at: Mapped[datetime | None]
    issued_session_id: Mapped[uuid.UUID | None]
    """What was issued for it: ends when the code is presented again."""
