"""Service accounts: users of kind `service`, who authenticate as OAuth2 clients by a secret."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from sqlalchemy import LargeBinary, Uuid, bindparam, exists, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.db.base import is_storable
from app.errors import Conflict, InvalidClient, NotFound
from app.identity.models import ClientSecret, User

FIRST_PARTY_CLIENT = "scopegate"
"""The `client_id` in a token that no registered client asked for. No service can be called so."""
CONSOLE_CLIENT, DOCS_CLIENT = "scopegate-console", "scopegate-docs"
"""The clients that ship with the service: /console and /docs."""

MAX_SECRETS = 2
SECRET_PREFIX = "sgs_"


class TooManySecrets(Conflict):
    """Two live secrets are for changing one for the other; a third would only be a risk."""

    text = f"There are {MAX_SECRETS} live secrets already: revoke one first."


class SecretNotFound(NotFound):
    """The service account has no such secret."""

    text = "There is no such secret."


class ClientRefused(InvalidClient):
    """One answer for every reason: a caller must not learn which clients exist."""

    text = "There is no such client, or its secret is wrong."


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """A client's id and secret, as presented and not yet checked."""

    client_id: str
    secret: str


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A secret as it is shown, once."""

    id: uuid.UUID
    value: str


@dataclass(frozen=True, slots=True)
class Client:
    """A service account that has authenticated, and by what."""

    id: uuid.UUID
    client_id: str
    digest: bytes
    """Of the secret that it has shown."""
    granted: Mapping[str, datetime | None]
    """What was granted to it as it authenticated, and until when."""


@dataclass(frozen=True, slots=True)
class AskingClient:
    """Which client asks for tokens, and whether it has shown its secret."""

    client_id: str | None
    """None: one that is not named."""
    authenticated: bool

    @classmethod
    def of(cls, client: Client | None, *, named: str | None) -> Self:
        """Return the client that has authenticated; else the public one that is named."""
        if client is not None:
            return cls(client.client_id, authenticated=True)
        # What can't be stored names none.
        known = named if named is not None and is_storable(named) else None
        return cls(known, authenticated=False)


async def secrets_of(db: AsyncSession, user_id: uuid.UUID) -> list[ClientSecret]:
    """A service account's live secrets, oldest first: when each was made, and its id."""
    statement = select(ClientSecret).where(ClientSecret.user_id == user_id)
    return list(await db.scalars(statement.order_by(ClientSecret.id)))


async def is_current(db: AsyncSession, client: Client) -> bool:
    """Return whether the client's secret is live and the client enabled, still."""
    values = {"client": client.id, "digest": client.digest}
    return bool(await db.scalar(select(CLIENT_IS_CURRENT), values))


_HOLDER = aliased(User)
CLIENT_IS_CURRENT = exists().where(
    ClientSecret.user_id == bindparam("client", type_=Uuid()),
    ClientSecret.digest == bindparam("digest", type_=LargeBinary()),
    _HOLDER.id == ClientSecret.user_id,
    _HOLDER.disabled_at.is_(None),
)
"""The condition that this client's secret is live and the client enabled."""
