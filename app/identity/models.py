"""Who there is, and how they are signed in."""

import uuid
from datetime import datetime

from sqlalchemy import (
    CheckConstraint,
    FetchedValue,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created, Identified


class User(Identified, Created, Base):
    """A person, or a service account. An erased one's row is empty, and soon deleted."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("kind IN ('person', 'service')", name="kind"),
        # Whatever is forgotten elsewhere: an erased account never comes back to life.
        CheckConstraint(
            "erased_at IS NULL OR (disabled_at IS NOT NULL AND password_hash IS NULL)",
            name="erased",
        ),
        Index("ix_users_erased", "erased_at", postgresql_where=text("erased_at IS NOT NULL")),
        Index("ix_users_behind", "id", postgresql_where=text("ended_epoch < session_epoch")),
        Index("ix_users_email_key", "email_key", postgresql_where=text("email_key IS NOT NULL")),
        Index(
            "uq_users_email_verified",
            "email_key",
            unique=True,
            postgresql_where=text("email_verified_at IS NOT NULL"),
        ),
    )

    username: Mapped[str]
    username_key: Mapped[str] = mapped_column(unique=True)
    """The name as it is compared: see `identity.names.username_key`."""
    username_skeleton: Mapped[bytes | None] = mapped_column(index=True)
    """What the name looks like: see `identity.names.username_skeleton`. None: not made yet."""
    kind: Mapped[str] = mapped_column(server_default=text("'person'"))
    password_hash: Mapped[str | None]
    """None: a service account, or a person who was invited or has yet to confirm their address."""
    email: Mapped[str | None]
    """A person's e-mail address, as it was typed."""
    email_key: Mapped[str | None]
    """The address as it is compared: see `mail.addresses.parse_address`."""
    email_verified_at: Mapped[datetime | None]
    """None: its reader has not confirmed it, so it stands for no account."""
    email_chosen_by: Mapped[uuid.UUID | None]
    """The manager who has chosen the address, and may read the mail there. None: the person has, or
    an operator. Not a foreign key: it stays when the manager is gone."""
    link_epoch: Mapped[int] = mapped_column(server_default=text("0"))
    """Links of an earlier epoch are void. Another password or address begins one, by a trigger."""
    disabled_at: Mapped[datetime | None]
    erased_at: Mapped[datetime | None]
    """When the account was erased: see `identity.erasure`. It counts as no user any more."""
    last_sign_in_at: Mapped[datetime | None]
    """To the minute: see `identity.session_opening.open_session`. None: not since it is noted."""
    session_epoch: Mapped[int] = mapped_column(server_default=text("0"))
    """Sessions of an earlier epoch have ended. Disabling the user increments it, by a trigger."""
    ended_epoch: Mapped[int] = mapped_column(server_default=text("0"))
    """Housekeeping has set `ended_at` of the sessions of all epochs before this one."""


class ErasedName(Base):
    """A keyed digest of an erased account's name: no account gets the name for a while."""

    __tablename__ = "erased_names"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    """Of the name or of what it looks like: see `identity.erased_names`."""
    erased_at: Mapped[datetime] = mapped_column(index=True)


class ClientSecret(Identified, Created, Base):
    """One live secret of a service account."""

    __tablename__ = "client_secrets"

    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    digest: Mapped[bytes]


class Session(Identified, Created, Base):
    """One login: all tokens that come of it live and end with it.

    There is no table of refresh tokens: the row's `generation` says which one is current.
    """

    __tablename__ = "sessions"
    __table_args__ = (
        Index(
            "ix_sessions_live",
            "user_id",
            "epoch",
            "expires_at",
            "id",
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index(None, "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
    )

    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    epoch: Mapped[int] = mapped_column(server_default=FetchedValue())
    """The user's `session_epoch` when it was opened; a trigger sets it where an INSERT does not."""
    client_id: Mapped[str | None]
    """The client that signed in with its secret, and must do so to refresh; or a registered one.

    None: a public client that is not registered."""
    consent_id: Mapped[uuid.UUID | None]
    """The consent of a registered client's session, which ends with it. None: it has no such
    client. Not a foreign key: a consent is withdrawn at once, however many sessions rest on it."""
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String))
    """Issued at login: no refresh ever gives more."""
    resources: Mapped[list[str] | None] = mapped_column(ARRAY(String))
    """The services that its tokens may be for, each for one of them. None: for this issuer's
    audience, as without RFC 8707."""
    last_used_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    idle_expires_at: Mapped[datetime] = mapped_column(index=True)
    """Never later than `expires_at`."""
    address: Mapped[str | None]
    user_agent: Mapped[str | None]
    generation: Mapped[int] = mapped_column(server_default=text("0"))
    rotated_at: Mapped[datetime | None]
    rotated_generation: Mapped[int | None]
    """The generation that `rotated_network` and `rotated_user_agent` belong to. If it differs from
    `generation`, an earlier release has refreshed since: it does not set these three columns."""
    rotated_network: Mapped[str | None]
    """As `identity.throttle.network_of` tells it."""
    rotated_user_agent: Mapped[str | None]
    refresh_key: Mapped[bytes]
    token_name: Mapped[str | None]
    """The label of the personal access token that this session is. None: it is a login."""
    ended_at: Mapped[datetime | None]
    """When its end was written; it may have ended before, with its epoch: see `is_live`."""
    end_reason: Mapped[str | None]


class FailureBudget(Base):
    """How many more wrong passwords or secrets are looked at: see `identity.throttle`."""

    __tablename__ = "failure_budgets"
    __table_args__ = ({"prefixes": ["UNLOGGED"]},)

    key: Mapped[bytes] = mapped_column(primary_key=True)
    """A keyed digest of whom and where it is for: people type their password as their name."""
    open_at: Mapped[datetime] = mapped_column(index=True)
    """Attempts are refused before this moment. The longer ago it is, the more failures are left."""


class KnownNetwork(Base):
    """Where a user has signed in from. Kept for longer than sessions, which end at a sign-out."""

    __tablename__ = "known_networks"

    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    network: Mapped[str] = mapped_column(primary_key=True)
    """As `identity.throttle.network_of` tells it."""
    signed_in_at: Mapped[datetime] = mapped_column(index=True)
    """The last time, give or take a day."""


ID_TOKEN_ALGORITHM = "RS256"
"""Of ID tokens, unless a client has chosen: all know it (OpenID Connect Discovery §3)."""


class Registration(Identified, Created, Base):
    """A client: an application that signs people in. A deleted one's row stays, without a use."""

    __tablename__ = "clients"
    __table_args__ = (
        Index(
            "uq_clients_live", "client_id", unique=True, postgresql_where=text("deleted_at IS NULL")
        ),
    )

    client_id: Mapped[str]
    name: Mapped[str]
    redirect_uris: Mapped[list[str]] = mapped_column(ARRAY(String))
    post_logout_redirect_uris: Mapped[list[str]] = mapped_column(ARRAY(String))
    scopes: Mapped[list[str] | None] = mapped_column(ARRAY(String))
    """The most that its tokens may have. None: every registered scope but `admin`."""
    trusted: Mapped[bool]
    """Whether people are not asked for their consent."""
    account_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("users.id"), index=True)
    """A confidential client's: the service account that has its secrets."""
    refresh_grace: Mapped[int | None]
    """Seconds, in place of SCOPEGATE_REFRESH_GRACE."""
    id_token_signed_response_alg: Mapped[str]
    """What its ID tokens are signed by, where a key of that algorithm signs; else RS256."""
    deleted_at: Mapped[datetime | None]


class Consent(Identified, Base):
    """What a person lets a client do. The sessions that rest on it end when it is withdrawn."""

    __tablename__ = "consents"
    __table_args__ = (UniqueConstraint("user_id", "registration_id"),)

    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    registration_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("clients.id"), index=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String))
    implied: Mapped[bool]
    """Whether a part of it was never asked for, because the client is trusted."""
    hosts: Mapped[list[str]] = mapped_column(ARRAY(String))
    """Of the redirect URIs that the person was shown: for another they are asked again."""
    given_at: Mapped[datetime]
    last_used_at: Mapped[datetime]


class BrowserSession(Base):
    """The cookie of a session in which a person uses this service's own pages."""

    __tablename__ = "browser_sessions"

    session_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True
    )
    digest: Mapped[bytes] = mapped_column(unique=True)
    signed_in_at: Mapped[datetime]
    """When the person has shown their password."""
    methods: Mapped[list[str]] = mapped_column(ARRAY(String))
    """By what they have shown who they are: names of RFC 8176."""


class AccountLink(Identified, Created, Base):
    """A one-time link: see `identity.links`. The token in it is kept nowhere."""

    __tablename__ = "account_links"
    __table_args__ = (UniqueConstraint("user_id", "purpose"),)

    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    purpose: Mapped[str]
    digest: Mapped[bytes] = mapped_column(unique=True)
    email: Mapped[str | None]
    """The address that it is about, or that it was mailed to."""
    made_by: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    """Who has made it, as a manager of the account: see `identity.links.UsedLink`."""
    epoch: Mapped[int]
    """The user's `link_epoch` when it was made."""
    expires_at: Mapped[datetime] = mapped_column(index=True)


class SignUp(Base):
    """An account that a stranger has made, and whose address is not confirmed yet."""

    __tablename__ = "sign_ups"

    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    password_hash: Mapped[str]
    """Becomes the user's when they confirm the address. Until then the user has no password."""
    expires_at: Mapped[datetime] = mapped_column(index=True)
    """Then the account is erased."""


class PersonalToken(Base):
    """The secret of a personal access token, while it counts. Its session says all else of it."""

    __tablename__ = "personal_tokens"
    __table_args__ = (Index(None, "user_id", "expires_at"),)

    session_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    """The session's: so that a person's tokens are found without looking through their logins."""
    digest: Mapped[bytes] = mapped_column(unique=True)
    expires_at: Mapped[datetime]
    """The session's."""
    ticket: Mapped[bytes | None] = mapped_column(unique=True)
    """Of the form that it was made by: a form that is sent again makes no second token."""
