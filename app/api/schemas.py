"""The bodies that go in and out, and the answers that OpenAPI declares."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.access.scopes import format_scope
from app.tokens.issuing import AccessToken

T = TypeVar("T")


def _storable(text: str) -> str:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("NUL and lone surrogates are not text")
    return text


Text = Annotated[str, AfterValidator(_storable)]
Title = Annotated[Text, Field(min_length=1, max_length=200)]
Description = Annotated[Text, Field(max_length=10_000)]


class Page(BaseModel, Generic[T]):
    """One page of a list; `next` is the `after` of the next one, null on the last."""

    items: list[T]
    next: str | None


class TokenAnswer(BaseModel):
    """RFC 6749 §5.1."""

    access_token: str
    token_type: str = "bearer"
    expires_in: int = Field(description="Seconds.")
    scope: str = Field(description="The scopes that were issued, space-delimited.")

    @classmethod
    def of(cls, issued: AccessToken) -> Self:
        """The answer that gives this token out."""
        return cls(
            access_token=issued.value,
            expires_in=int(issued.lifetime.total_seconds()),
            scope=format_scope(issued.scopes),
        )


class OAuthErrorAnswer(BaseModel):
    """RFC 6749 §5.2."""

    error: str
    error_description: str


class ErrorAnswer(BaseModel):
    """What was wrong and what to do."""

    detail: str


class Problem(BaseModel):
    """One thing that does not fit in a request."""

    type: str
    loc: list[str | int]
    msg: str


class ValidationAnswer(BaseModel):
    """Where and why the input does not fit."""

    detail: list[Problem]


class Me(BaseModel):
    """The user behind the token."""

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    username: str
    kind: str
    created_at: datetime
    scopes: list[str] = Field(description="Effective: in the token, and granted now.")
    granted: list[str] = Field(description="Held now, whatever the token may use of it.")


class NewItem(BaseModel):
    """An item to create."""

    title: Title
    description: Description | None = None


class ItemChange(BaseModel):
    """What to change of an item; what is absent stays."""

    title: Title | None = None
    description: Description | None = None

    @model_validator(mode="after")
    def _title_stays_a_title(self) -> Self:
        if "title" in self.model_fields_set and self.title is None:
            raise ValueError("an item has a title: leave it out to keep it")
        return self


class ItemAnswer(BaseModel):
    """An item."""

    model_config = ConfigDict(from_attributes=True)

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


def oauth_answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The declaration of an OAuth endpoint's refusals."""
    return {status: {"model": OAuthErrorAnswer} for status in statuses}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The declaration of refusals; 422 is a list of problems, or one text."""
    return {
        status: {"model": ValidationAnswer | ErrorAnswer if status == 422 else ErrorAnswer}
        for status in statuses
    }


PROTECTED = refusals(400, 401, 403, 503)
"""What every protected route may answer beside its own."""
