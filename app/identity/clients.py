"""Service accounts: users of kind `service`, who authenticate as OAuth2 clients by a secret."""

import hashlib
import hmac
import secrets
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.audit.log import Actor, record
from app.errors import Conflict, InvalidClient, NotFound, Refused, audited
from app.identity.locks import hold_users, share_users
from app.identity.models import ClientSecret, User
from app.identity.names import normalise_username
from app.identity.refusals import audit_refusal
from app.identity.throttle import AT_THIS_ADDRESS, Throttle, network_of, record_failure
from app.identity.users import NOBODY, add_user, find_user

FIRST_PARTY_CLIENT = "scopegate"
"""The `client_id` in a token that no registered client asked for. No service can be called so."""

MAX_SECRETS = 2
SECRET_PREFIX = "sgs_"


class TooManySecrets(Conflict):
    """Two live secrets are for changing one for the other; a third would only be a risk."""

    def __init__(self) -> None:
        super().__init__(f"There are {MAX_SECRETS} live secrets already: revoke one first.")


class SecretNotFound(NotFound):
    """The service account has no such secret."""

    def __init__(self) -> None:
        super().__init__("There is no such secret.")


class ClientRefused(InvalidClient):
    """One answer for every reason: a caller must not learn which clients exist."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__("There is no such client, or its secret is wrong.")
        self.reason = reason


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


async def create_service(
    session: AsyncSession, *, username: str, by: Actor
) -> tuple[User, NewSecret]:
    """A new service account with its first secret. Its name is its `client_id` for ever.

    Raises UsernameTaken, or Refused for an unfit name.
    """
    name = normalise_username(username)
    if not name.isascii() or ":" in name or name.lower() == FIRST_PARTY_CLIENT:
        # RFC 6749 §2.3.1 and appendix A.1: it has to fit in HTTP Basic.
        raise Refused("A service's name is ASCII without a colon, and not the product's own.")
    user = await add_user(session, username=name, kind="service", password_hash=None, by=by)
    return user, await make_secret(session, user_id=user.id, by=by)


async def make_secret(session: AsyncSession, *, user_id: uuid.UUID, by: Actor) -> NewSecret:
    """One more secret; the old one goes on working. Raises TooManySecrets or Refused."""
    # Of two who ask at once, one counts after the other.
    await hold_users(session, user_id)
    kind = await session.scalar(select(User.kind).where(User.id == user_id))
    if kind != "service":
        raise Refused("Only service accounts have secrets.")
    live = await session.scalars(select(ClientSecret.id).where(ClientSecret.user_id == user_id))
    if len(live.all()) >= MAX_SECRETS:
        raise TooManySecrets
    value = SECRET_PREFIX + secrets.token_urlsafe(32)
    row = ClientSecret(user_id=user_id, digest=_digest(value))
    session.add(row)
    await session.flush()
    record(session, "secret.made", by=by, subject=user_id, secret=row.id)
    return NewSecret(row.id, value)


async def secrets_of(session: AsyncSession, user_id: uuid.UUID) -> list[ClientSecret]:
    """A service account's live secrets, oldest first: when each was made, and its id."""
    statement = select(ClientSecret).where(ClientSecret.user_id == user_id)
    return list(await session.scalars(statement.order_by(ClientSecret.id)))


async def revoke_secret(
    session: AsyncSession, *, user_id: uuid.UUID, secret_id: uuid.UUID, by: Actor
) -> None:
    """The secret works no more. Raises SecretNotFound."""
    await hold_users(session, user_id)
    removed = await session.scalar(
        delete(ClientSecret)
        .where(ClientSecret.id == secret_id, ClientSecret.user_id == user_id)
        .returning(ClientSecret.id)
    )
    if removed is None:
        raise SecretNotFound
    record(session, "secret.revoked", by=by, subject=user_id, secret=secret_id)


@asynccontextmanager
async def authenticate_client(
    sessions: async_sessionmaker[AsyncSession],
    throttle: Throttle,
    *,
    client_id: str,
    secret: str,
    by: Actor,
    now: datetime,
) -> AsyncIterator[Client]:
    """Yield the service account with this id and secret; the request belongs in the block.

    What refuses the request after that is audited, so that no one tests a secret unseen. A fast
    digest is enough: the secrets are 256 random bits, which can't be guessed. Raises ClientRefused,
    which is audited as far as `throttle.entries` admits; Throttled when too many of those came from
    this address.
    """
    async with throttle.autocommit() as session:
        user = await find_user(session, client_id)
        user_id = user.id if user else None
        attempt = await throttle.admit(
            session, AT_THIS_ADDRESS, name=client_id, user_id=user_id, address=by.address, now=now
        )
        stored = await session.scalars(
            select(ClientSecret.digest).where(ClientSecret.user_id == (user_id or NOBODY))
        )
    presented = _digest(secret)
    # A list, not any(): every stored secret is compared, wherever the right one stands.
    matches = [hmac.compare_digest(presented, digest) for digest in stored]
    if user is None or user.username != client_id:
        # Unlike a person's name, an identifier is compared to the letter (RFC 6749 §1.9).
        refusal = "unknown client"
    elif not any(matches):
        refusal = "wrong client secret"
    elif user.disabled_at is not None:
        refusal = "disabled"
    else:
        async with audit_refusal(
            sessions, user.id, right="client secret", by=by, limit=throttle.entries, now=now
        ):
            yield Client(user.id, user.username, presented)
        return
    await record_failure(
        sessions,
        throttle,
        attempt,
        subject=user_id,
        by=by,
        reason=refusal,
        left_out=throttle.entries.admit(network_of(by.address), now=now),
        now=now,
    )
    raise audited(ClientRefused())


async def confirm_client(session: AsyncSession, client: Client) -> None:
    """Return only if the client's secret is still live and it is not disabled, until the commit.

    So a revocation of the secret and the sessions comes before this, or after what it opens.
    Raises ClientRefused.
    """
    await share_users(session, client.id)
    same = (
        select(User.id)
        .join(ClientSecret, ClientSecret.user_id == User.id)
        .where(
            User.id == client.id,
            User.disabled_at.is_(None),
            ClientSecret.digest == client.digest,
        )
    )
    if await session.scalar(same) is None:
        raise ClientRefused("the client was changed meanwhile")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
