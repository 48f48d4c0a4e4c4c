"""What the API answers and the commands print: users, grants, sessions, scopes, audit entries."""

import uuid
from datetime import datetime
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.access.models import Scope
from app.access.scopes import SHIPPED
from app.identity.models import ClientSecret, Registration, User
from app.identity.users import Kind

ALICE = "01890000-0000-7000-8000-000000000001"
"""In examples: the id of a user, and of another below."""
ROOT = "01890000-0000-7000-8000-000000000002"


def example(**values: JsonValue) -> ConfigDict:
    """Return the configuration of a model that OpenAPI shows with these values."""
    return ConfigDict(json_schema_extra={"examples": [values]})


class Listed(BaseModel):
    """What can stand in a list: its pages are told apart by the last one's key."""

    model_config = ConfigDict(from_attributes=True)

    key: ClassVar[str] = "id"


class SessionAnswer(Listed):
    """One login, or one personal access token."""

    model_config = example(
        id="01890000-0000-7000-8000-000000000010",
        client_id=None,
        scopes=["read:items"],
        created_at="2027-01-04T08:12:30Z",
        last_used_at="2027-01-05T16:40:02Z",
        expires_at="2027-02-03T08:12:30Z",
        address="192.0.2.10",
        user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        token_name=None,
    )

    id: uuid.UUID
    client_id: str | None
    scopes: list[str]
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    address: str | None
    user_agent: str | None
    token_name: str | None = Field(
        None, description="Of a personal access token: what its owner calls it. Null: a login."
    )


class SecretAnswer(Listed):
    """A live secret of a service account, without the secret itself."""

    model_config = example(
        secret_id="01890000-0000-7000-8000-000000000020",  # noqa: S106
        created_at="2027-01-04T08:00:00Z",
    )

    key = "secret_id"

    secret_id: uuid.UUID
    created_at: datetime

    @classmethod
    def of(cls, secret: ClientSecret) -> Self:
        """The answer that shows this secret."""
        return cls(secret_id=secret.id, created_at=secret.created_at)


class UserAnswer(Listed):
    """A user, as administrators see them."""

    model_config = example(
        id=ALICE,
        username="alice",
        kind="person",
        disabled=False,
        email="alice@example.com",
        email_verified=True,
        created_at="2027-01-04T08:00:00Z",
        last_sign_in_at="2027-01-05T07:58:00Z",
    )

    id: uuid.UUID
    username: str
    kind: Kind
    disabled: bool
    email: str | None = Field(None, description="A person's e-mail address, if it is known.")
    email_verified: bool = Field(
        False, description="Whether the address was confirmed. Only then it stands for the user."
    )
    created_at: datetime
    last_sign_in_at: datetime | None = Field(
        None, description="To the minute. Null: none since the service notes it."
    )

    @classmethod
    def of(cls, user: User) -> Self:
        """The answer that shows this user."""
        return cls(
            id=user.id,
            username=user.username,
            kind=user.kind,
            disabled=user.disabled_at is not None,
            email=user.email,
            email_verified=user.email_verified_at is not None,
            created_at=user.created_at,
            last_sign_in_at=user.last_sign_in_at,
        )


class GrantAnswer(Listed):
    """A scope that the user holds now."""

    model_config = example(
        scope="read:audit",
        granted_at="2027-01-04T08:05:00Z",
        granted_by=ROOT,
        expires_at="2027-01-31T18:00:00Z",
        reason="On call in January",
    )

    key = "scope"

    scope: str
    granted_at: datetime
    granted_by: uuid.UUID | None = Field(description="Null: by an operator's command.")
    expires_at: datetime | None
    reason: str | None


class ScopeAnswer(Listed):
    """A scope that can be granted."""

    model_config = example(
        name="read:orders",
        description="Read orders",
        resource="https://orders.example",
        built_in=False,
    )

    key = "name"

    name: str
    description: str
    resource: str | None = Field(description="The service that it belongs to (RFC 8707).")
    built_in: bool = Field(description="It ships with the service, and can't be removed.")

    @classmethod
    def of(cls, scope: Scope) -> Self:
        """The answer that shows this scope."""
        built_in = scope.name in SHIPPED
        return cls(
            name=scope.name,
            description=scope.description,
            resource=scope.resource,
            built_in=built_in,
        )


class ClientAnswer(Listed):
    """An application that signs people in."""

    model_config = example(
        client_id="orders-app",
        name="Orders",
        redirect_uris=["https://orders.example/callback"],
        post_logout_redirect_uris=[],
        scopes=["read:items"],
        confidential=False,
        trusted=False,
        refresh_grace=None,
        id_token_signed_response_alg="RS256",  # noqa: S106
        created_at="2027-01-04T08:00:00Z",
    )

    key = "client_id"

    client_id: str
    name: str
    redirect_uris: list[str] = Field(
        description="Those of the clients that ship begin with `/`: they are below the issuer."
    )
    post_logout_redirect_uris: list[str]
    scopes: list[str] | None = Field(
        description="The most that its tokens may have. Null: every scope but `admin`."
    )
    confidential: bool
    trusted: bool
    refresh_grace: int | None
    id_token_signed_response_alg: str
    created_at: datetime

    @classmethod
    def of(cls, registration: Registration) -> Self:
        """The answer that shows this client."""
        return cls(
            client_id=registration.client_id,
            name=registration.name,
            redirect_uris=registration.redirect_uris,
            post_logout_redirect_uris=registration.post_logout_redirect_uris,
            scopes=registration.scopes,
            confidential=registration.account_id is not None,
            trusted=registration.trusted,
            refresh_grace=registration.refresh_grace,
            id_token_signed_response_alg=registration.id_token_signed_response_alg,
            created_at=registration.created_at,
        )


class ApplicationAnswer(Listed):
    """A client that you have let in."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "client_id": "orders-app",
                    "name": "Orders",
                    "scopes": ["read:items"],
                    "given_at": "2027-01-04T08:05:00Z",
                    "last_used_at": "2027-01-05T07:58:00Z",
                }
            ]
        },
    )

    key = "client_id"

    client_id: str
    name: str
    scopes: list[str]
    given_at: datetime
    last_used_at: datetime = Field(description="To the minute.")


class AuditAnswer(Listed):
    """Who did what to whom."""

    model_config = example(
        id="01890000-0000-7000-8000-000000000030",
        at="2027-01-04T08:05:00Z",
        action="grant.made",
        actor=ROOT,
        subject=ALICE,
        detail={"scope": "read:audit", "expires_at": None},
        address="192.0.2.10",
        request_id="5f0c7d2a9b1e4f3c8d6a7b8c9d0e1f2a",
    )

    id: uuid.UUID
    at: datetime
    action: str
    actor: uuid.UUID | None = Field(
        description="Null: not signed in, an operator's command, or the service itself."
    )
    subject: uuid.UUID | None = Field(description="The user it was done to.")
    detail: dict[str, Any]
    address: str | None
    request_id: str | None
