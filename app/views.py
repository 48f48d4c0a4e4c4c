"""What the API answers and the commands print: users, grants, sessions, scopes, audit entries."""

import uuid
from datetime import datetime
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

from app.identity.models import User
from app.identity.users import Kind


class Listed(BaseModel):
    """What can stand in a list: its pages are told apart by the last one's key."""

    model_config = ConfigDict(from_attributes=True)

    key: ClassVar[str] = "id"


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


class GrantAnswer(Listed):
    """A scope that the user holds now."""

    key = "scope"

    scope: str
    granted_at: datetime
    granted_by: uuid.UUID | None = Field(description="Null: by an operator's command.")
    expires_at: datetime | None
    reason: str | None


class ScopeAnswer(Listed):
    """A scope that can be granted."""

    key = "name"

    name: str
    description: str


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
