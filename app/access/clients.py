"""Clients: a service account proves who it is, and what it holds is read with the same look."""

import hmac
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from sqlalchemy import DateTime, bindparam

from app.access.holdings import granted_to, read_granted
from app.crypto import digest
from app.db.work import Actor, Database
from app.errors import audited
from app.identity.candidates import Candidate, find_candidates, select_candidates
from app.identity.clients import Client, ClientCredentials, ClientRefused
from app.identity.models import User
from app.identity.networks import network_of
from app.identity.refusals import audit_refusal
from app.identity.throttle import AT_THIS_ADDRESS, AttemptSource, Throttle, record_failure

# Built once, because each client's request runs it.
_NOW = bindparam("now", type_=DateTime(timezone=True))
_CANDIDATES = select_candidates(granted_to(User.id, _NOW))


@dataclass(frozen=True, slots=True)
class _Reading:
    """One reading of what a client has presented, and the user whose name it has."""

    presented: ClientCredentials
    user: Candidate | None

    @property
    def is_named(self) -> bool:
        """Whether this is the user's name to the letter, unlike a person's (RFC 6749 §1.9)."""
        return self.user is not None and self.user.username == self.presented.client_id

    @property
    def has_secret(self) -> bool:
        """Whether the secret is one of the user's."""
        presented = digest(self.presented.secret)
        # A list first: every stored secret is compared, wherever the right one stands.
        stored = (self.user and self.user.secrets) or ()
        matches = [hmac.compare_digest(presented, each) for each in stored]
        return any(matches)

    @property
    def refusal(self) -> str | None:
        """Why it is refused, in words for the audit log alone; None if it is right."""
        if self.user is None or not self.is_named:
            return "unknown client"
        if not self.has_secret:
            return "wrong client secret"
        return "disabled" if self.user.disabled_at is not None else None


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
    # By one reading whether a user has that name or not: else the throttle would tell.
    source = AttemptSource(readings[0].client_id, None, actor.origin.address)
    attempt = throttle.attempt(AT_THIS_ADDRESS, source, now=now)
    # All are looked up: the work does not tell whether the first one names a client.
    names = [each.client_id for each in readings]
    users = await find_candidates(throttle, names, attempt, by=_CANDIDATES, now=now)
    chosen = _choose([_Reading(*each) for each in zip(readings, users, strict=True)])
    user, refusal = chosen.user, chosen.refusal
    if user is not None and refusal is None:
        right, granted = digest(chosen.presented.secret), read_granted(user.granted)
        async with audit_refusal(
            database, user.id, right="client secret", actor=actor, limit=throttle.entries
        ):
            yield Client(user.id, user.username, right, granted)
        return
    assert refusal is not None
    await record_failure(
        database,
        throttle,
        replace(attempt, user_id=user.id if user else None),
        actor=actor,
        reason=refusal,
        left_out=throttle.entries.admit(network_of(actor.origin.address), now=now),
    )
    raise audited(ClientRefused())


def _choose(found: Sequence[_Reading]) -> _Reading:
    """Return the first that is right; else the first that names a client; else the first."""
    named = [each for each in found if each.is_named]
    right = [each for each in named if each.has_secret]
    return (right or named or found)[0]
