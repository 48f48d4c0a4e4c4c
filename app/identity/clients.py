"""Service accounts: users of kind `service`, who authenticate as OAuth2 clients by a secret."""

import hmac
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import digest
from app.db.work import Actor, Database
from app.errors import Conflict, InvalidClient, NotFound, audited
from app.identity.locks import share_users
from app.identity.models import ClientSecret, User
from app.identity.networks import network_of
from app.identity.refusals import audit_refusal
from app.identity.throttle import AT_THIS_ADDRESS, AttemptSource, Throttle, record_failure
from app.identity.users import NO_USER_ID, find_user

FIRST_PARTY_CLIENT = "scopegate"
"""The `client_id` in a token that no registered client asked for. No service can be called so."""

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


async def secrets_of(db: AsyncSession, user_id: uuid.UUID) -> list[ClientSecret]:
    """A service account's live secrets, oldest first: when each was made, and its id."""
    statement = select(ClientSecret).where(ClientSecret.user_id == user_id)
    return list(await db.scalars(statement.order_by(ClientSecret.id)))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One reading of what a client has presented, and the user whose name it has."""

    presented: ClientCredentials
    user: User | None

    @property
    def is_named(self) -> bool:
        """Whether this is the user's name to the letter, unlike a person's (RFC 6749 §1.9)."""
        return self.user is not None and self.user.username == self.presented.client_id

    async def has_secret(self, db: AsyncSession) -> bool:
        """Whether the secret is one of the user's."""
        owner = self.user.id if self.user else NO_USER_ID
        stored = await db.scalars(select(ClientSecret.digest).where(ClientSecret.user_id == owner))
        presented = digest(self.presented.secret)
        # A list first: every stored secret is compared, wherever the right one stands.
        matches = [hmac.compare_digest(presented, each) for each in stored]
        return any(matches)


@asynccontextmanager
async def authenticate_client(
    database: Database,
    throttle: Throttle,
    *,
    readings: Sequence[ClientCredentials],
    actor: Actor,
) -> AsyncIterator[Client]:
    """Yield the service account with this id and secret; the request belongs in the block.

    `readings` are the ways to read what was presented: the first that is right counts.

    What refuses the request after that is audited, so that no one tests a secret unseen. A fast
    digest is enough: the secrets are 256 random bits, which can't be guessed. Raises ClientRefused,
    which is audited as far as `throttle.entries` admits; Throttled when too many of those came from
    this address.
    """
    now = database.now()
    async with throttle.autocommit() as db:
        # All are looked up: the work does not tell whether the first one names a client.
        candidates = [_Candidate(each, await find_user(db, each.client_id)) for each in readings]
        chosen = next((each for each in candidates if each.is_named), candidates[0])
        user_id = chosen.user.id if chosen.user else None
        # By one reading whether a user has that name or not: else the throttle would tell.
        name = candidates[0].presented.client_id
        source = AttemptSource(name, user_id, actor.origin.address)
        attempt = await throttle.admit(db, AT_THIS_ADDRESS, source, now=now)
        right = [each for each in candidates if await each.has_secret(db) and each.is_named]
    chosen = right[0] if right else chosen
    user = chosen.user
    if user is None or not chosen.is_named:
        refusal = "unknown client"
    elif not right:
        refusal = "wrong client secret"
    elif user.disabled_at is not None:
        refusal = "disabled"
    else:
        async with audit_refusal(
            database, user.id, right="client secret", actor=actor, limit=throttle.entries
        ):
            yield Client(user.id, user.username, digest(chosen.presented.secret))
        return
    await record_failure(
        database,
        throttle,
        attempt,
        actor=actor,
        reason=refusal,
        left_out=throttle.entries.admit(network_of(actor.origin.address), now=now),
    )
    raise audited(ClientRefused())


async def confirm_client(db: AsyncSession, client: Client) -> None:
    """Return only if the client's secret is still live and it is not disabled, until the commit.

    So a revocation of the secret or the sessions happens either before this check, or after the
    commit of the session that this transaction opens. Raises ClientRefused.
    """
    await share_users(db, client.id)
    same = (
        select(User.id)
        .join(ClientSecret, ClientSecret.user_id == User.id)
        .where(
            User.id == client.id,
            User.disabled_at.is_(None),
            ClientSecret.digest == client.digest,
        )
    )
    if await db.scalar(same) is None:
        raise ClientRefused(reason="the client was changed meanwhile")
