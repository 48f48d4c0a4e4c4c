"""The bodies that go in and out."""

import re
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

from fastapi import Path, Query
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from app.access.remarks import MAX_REMARK
from app.access.scopes import MAX_SCOPE, SCOPE_TOKEN, format_scope
from app.db.base import is_storable
from app.identity.models import User
from app.identity.users import Kind
from app.tokens.issuing import Issued

_DATE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("NUL and lone surrogates are not text")
    return text


def _written_out(moment: object) -> object:
    # pydantic takes numbers too, for seconds or milliseconds, whichever seems likelier.
    if isinstance(moment, int | float) or (isinstance(moment, str) and not _DATE.match(moment)):
        raise ValueError("a moment is written as in RFC 3339")
    return moment


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("this moment is out of range") from None


Limit = Annotated[int, Query(ge=1, le=100, description="At most how many to answer.")]
Moment = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_in_utc)]
Text = Annotated[
    str, AfterValidator(_storable), Field(json_schema_extra={"pattern": r"^[^\u0000]*$"})
]
Title = Annotated[Text, Field(min_length=1, max_length=200)]
Description = Annotated[Text, Field(max_length=10_000)]
Remark = Annotated[Text, Field(max_length=MAX_REMARK)]
NewScopeName = Annotated[str, Path(max_length=MAX_SCOPE, pattern=f"^{SCOPE_TOKEN}$")]


class Listed(BaseModel):
    """What can stand in a list: its pages are told apart by the last one's key."""

    model_config = ConfigDict(from_attributes=True)

    key: ClassVar[str] = "id"


L = TypeVar("L", bound=Listed)


class Page(BaseModel, Generic[L]):
    """One page of a list; `next` is the `after` of the next one, null on the last."""

    items: list[L]
    next: str | None

    @classmethod
    def of(cls, found: list[L], *, limit: int) -> Self:
        """The page of what was found when one more than `limit` was looked for."""
        items = found[:limit]
        more = len(found) > limit
        return cls(items=items, next=str(getattr(items[-1], items[-1].key)) if more else None)


class TokenAnswer(BaseModel):
    """RFC 6749 §5.1."""

    access_token: str
    token_type: str = "bearer"
    expires_in: int = Field(description="Seconds.")
    scope: str = Field(description="The scopes that were issued, space-delimited.")
    refresh_token: str | None = Field(None, description="Absent for client credentials.")

    @classmethod
    def of(cls, issued: Issued) -> Self:
        """The answer that gives these tokens out."""
        return cls(
            access_token=issued.access_token,
            expires_in=int(issued.lifetime.total_seconds()),
            scope=format_scope(issued.scopes),
            refresh_token=issued.refresh_token,
        )


class Me(BaseModel):
    """The user behind the token."""

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    username: str
    kind: str
    created_at: datetime
    scopes: list[str] = Field(description="Effective: in the token, and granted now.")
    granted: list[str] = Field(description="Held now, whatever the token may use of it.")
    granted_until: dict[str, datetime] = Field(
        description="When those of these end that end by themselves."
    )


class PasswordChange(BaseModel):
    """The password as it is, and as it shall be."""

    current_password: str
    new_password: str


class SessionAnswer(Listed):
    """One login."""

    id: uuid.UUID
    client_id: str | None
    scopes: list[str]
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    address: str | None
    user_agent: str | None


class UserAnswer(Listed):
    """A user, as administrators see them."""

    id: uuid.UUID
    username: str
    kind: Kind
    disabled: bool
    created_at: datetime

    @classmethod
    def of(cls, user: User) -> Self:
        """The answer that shows this user."""
        return cls(
            id=user.id,
            username=user.username,
            kind=user.kind,
            disabled=user.disabled_at is not None,
            created_at=user.created_at,
        )


class NewUser(BaseModel):
    """A user to create: a person with a password, or a service account, which gets a secret."""

    username: str
    kind: Kind = "person"
    password: str | None = None

    @model_validator(mode="after")
    def _only_people_have_passwords(self) -> Self:
        if (self.kind == "person") != (self.password is not None):
            raise ValueError("a person has a password and a service account has none")
        return self


class SecretAnswer(BaseModel):
    """What a service account authenticates with. Shown once, and kept nowhere."""

    client_id: str
    client_secret: str
    secret_id: uuid.UUID


class NewUserAnswer(UserAnswer):
    """The user that was made."""

    client_id: str | None = Field(None, description="A service account's: its name, for ever.")
    client_secret: str | None = Field(None, description="A service account's, shown once.")
    secret_id: uuid.UUID | None = Field(None, description="What to revoke the secret by.")


class UserChange(BaseModel):
    """What to change of a user; what is absent stays."""

    username: str | None = None
    disabled: bool | None = None


class NewPassword(BaseModel):
    """The password as it shall be."""

    password: str


class GrantAnswer(Listed):
    """A scope that the user holds now."""

    key = "scope"

    scope: str
    granted_at: datetime
    granted_by: uuid.UUID | None = Field(description="Null: by an operator's command.")
    expires_at: datetime | None
    reason: str | None


class GrantTerms(BaseModel):
    """Until when the scope is held, and why. Without an end: until it is revoked."""

    expires_at: Moment | None = None
    reason: Remark | None = None


class ScopeAnswer(Listed):
    """A scope that can be granted."""

    key = "name"

    name: str
    description: str


class ScopeDescription(BaseModel):
    """What the scope allows."""

    description: Remark


class AuditAnswer(Listed):
    """Who did what to whom."""

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


class Introspection(BaseModel):
    """RFC 7662 §2.2. An inactive token has `active` alone."""

    active: bool
    scope: str | None = Field(None, description="The scopes that count now.")
    client_id: str | None = None
    username: str | None = None
    token_type: str | None = None
    exp: int | None = None
    iat: int | None = None
    sub: uuid.UUID | None = None
    aud: str | None = None
    iss: str | None = None
    jti: uuid.UUID | None = None
    sid: uuid.UUID | None = None


class Metadata(BaseModel):
    """RFC 8414 §2."""

    issuer: str
    token_endpoint: str
    jwks_uri: str
    revocation_endpoint: str
    introspection_endpoint: str
    scopes_supported: list[str]
    response_types_supported: list[str]
    grant_types_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    revocation_endpoint_auth_methods_supported: list[str]
    introspection_endpoint_auth_methods_supported: list[str]


class NewItem(BaseModel):
    """An item to create."""

    title: Title
    description: Description | None = None


class ItemChange(BaseModel):
    """What to change of an item; what is absent stays."""

    title: Title | SkipJsonSchema[None] = None
    description: Description | None = None

    @model_validator(mode="after")
    def _title_stays_a_title(self) -> Self:
        if "title" in self.model_fields_set and self.title is None:
            raise ValueError("an item has a title: leave it out to keep it")
        return self


class ItemAnswer(Listed):
    """An item."""

    id: uuid.UUID
    owner_id: uuid.UUID
    title: str
    description: str | None
    created_at: datetime
    updated_at: datetime


class Jwks(BaseModel):
    """RFC 7517 §5."""

    keys: list[dict[str, Any]]


class Health(BaseModel):
    """How the service is."""

    status: str


class Readiness(Health):
    """Whether it can serve, and how it checks requests."""

    checks: Literal["cached", "database"]
