"""Refresh tokens: no table of them, only a generation on the session's row.

A token is `session id ‖ generation ‖ proof ‖ seal`. The seal is a MAC under the service's secret
alone: what does not carry it is refused before the database is asked. The proof is a MAC under the
secret *and* a random key in the session's row: so neither a leaked database nor a leaked secret is
enough to make a token.
"""

import base64
import hmac
import struct
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from app.access.client_limits import ClientLimit, read_limit
from app.access.holdings import Granted, read_granted
from app.audit.log import record
from app.crypto import mac
from app.db.work import Actor, Work
from app.errors import InvalidGrant
from app.identity.clients import AskingClient
from app.identity.missing_sessions import MaybeBehind, age_of, require_known
from app.identity.models import Session
from app.identity.networks import network_of
from app.identity.session_writes import end_session
from app.identity.sessions import user_agent_of
from app.tokens import refresh_statements as statements

PREFIX = "sgr_"
T = TypeVar("T")
MAC_BYTES = 17  # 136 bits; with it a token's length is a multiple of three, so its Base64 is unique
_HEAD = struct.Struct(">16si")  # signed, as the column is: no number is too large to ask for
_SIZE = _HEAD.size + 2 * MAC_BYTES


class RefreshTokenRefused(InvalidGrant):
    """One answer for every reason."""

    text = "The refresh token is invalid, expired or revoked."


class RefreshTokenReused(RefreshTokenRefused):
    """A refresh token that was used before: the first user or the present one has stolen it.

    The session ends, and that stays written although the request fails.
    """

    keeps_writes = True
    audited = True


@dataclass(frozen=True, slots=True)
class Grace:
    """When a used token gets its successor again instead of ending the session."""

    lasts: timedelta
    """From the first use on, and only while the successor is unused."""
    strict: bool
    """Whether another network together with another user agent ends the session all the same."""
    outage: Callable[[float], float] = lambda _: 0.0
    """In how many of the last so many seconds no request could be answered: they don't count."""

    def covers(self, used_for: timedelta) -> bool:
        """Whether a token that was first used so long ago still gets its successor."""
        return used_for - timedelta(seconds=self.outage(used_for.total_seconds())) <= self.lasts

    def of(self, limit: ClientLimit | None) -> "Grace":
        """Return the grace of a registered client, if it has one of its own."""
        if limit is None or limit.refresh_grace is None:
            return self
        return replace(self, lasts=timedelta(seconds=limit.refresh_grace))


@dataclass(frozen=True, slots=True)
class Terms:
    """What the use of a refresh token goes by."""

    grace: Grace
    idle_timeout: timedelta
    """How long the session lives without another use."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What bounds a session's tokens now."""

    granted: Granted
    limit: ClientLimit | None
    """A registered client's."""


@dataclass(frozen=True, slots=True)
class ParsedRefreshToken:
    """A refresh token with a valid seal. Its proof is checked with the key in the session's row."""

    session_id: uuid.UUID
    generation: int
    proof: bytes


class RefreshTokens:
    """Writes refresh tokens under the first secret, and reads those of every secret.

    For `bound` another process may know of a session that this one's database does not have yet.
    """

    def __init__(self, secret_keys: list[str], *, bound: timedelta = timedelta()) -> None:
        self._bound = bound
        self._secrets = [secret.encode() for secret in secret_keys]

    def write(self, session: Session) -> str:
        """The token of the session's present generation: the same, however often it is asked."""
        head = _HEAD.pack(session.id.bytes, session.generation)
        body = head + _proof(self._secrets[0], session.refresh_key, head)
        raw = body + _mac(self._secrets[0], b"seal", body)
        return _spelled(raw)

    def read(self, token: str) -> ParsedRefreshToken | None:
        """What the token says; None unless it bears our seal. Asks no database."""
        try:
            raw = base64.b64decode(token.removeprefix(PREFIX), altchars=b"-_")
        except ValueError:
            return None
        # Python reads what is spelled otherwise, and junk in between: a token has one spelling.
        if len(raw) != _SIZE or token != _spelled(raw):
            return None
        body, seal = raw[:-MAC_BYTES], raw[-MAC_BYTES:]
        # All are tried, not any(): the time does not tell which secret it was.
        if not sum(hmac.compare_digest(seal, _mac(key, b"seal", body)) for key in self._secrets):
            return None
        session_id, generation = _HEAD.unpack(body[: _HEAD.size])
        return ParsedRefreshToken(uuid.UUID(bytes=session_id), generation, body[_HEAD.size :])

    def proves(self, presented: ParsedRefreshToken, session: Session) -> bool:
        """Whether the token was made with the key in this session's row."""
        head = _HEAD.pack(presented.session_id.bytes, presented.generation)
        return bool(
            sum(
                hmac.compare_digest(presented.proof, _proof(key, session.refresh_key, head))
                for key in self._secrets
            )
        )

    async def use(
        self,
        work: Work[Actor],
        token: str,
        issue: Callable[[Session, Holdings], Awaitable[T]],
        *,
        client: AskingClient,
        terms: Terms,
    ) -> T:
        """Use up the token; return what `issue` makes for its session and what its user holds now.

        From the session, `write` now makes the successor. `issue` comes before the token is used
        up: if it raises, the token stays good. All that `work` does is committed at once.

        However many use one token at once, there is one successor. Within the grace they all get
        it, so that a lost response or a second tab signs no user out. The grace counts from the
        first use, without the time in which no request could be answered. It is not extended, and
        ends when the successor is used. Using the access token that came with it does not end the
        grace. After the grace the token raises RefreshTokenReused. Within a strict grace, a use
        from another network and another user agent raises it too. Any other use from another
        network is audited. Raises MaybeBehind when another process may know of this token and the
        database does not, and RefreshTokenRefused for every other reason.
        """
        presented = self.read(token)
        if presented is None:
            raise RefreshTokenRefused
        found, holdings = await self._find(work, presented, client=client)
        if found.generation == presented.generation:
            values = _values_of_use(work, presented, client=client, terms=terms)
            found.generation += 1
            found.idle_expires_at = min(found.expires_at, values["idle_until"])
            issued = await issue(found, holdings)
            if await work.db.scalar(statements.USE_UP, values):
                return issued
            # Another use of it was faster.
            found, holdings = await self._find(work, presented, client=client)
        # What comes now is judged in a transaction, on a connection of its own.
        await work.commit()
        async with work.database.work(work.actor) as judging:
            grace = terms.grace.of(holdings.limit)
            await _allow_grace(judging, found, presented, grace=grace)
        return await issue(found, holdings)

    async def _find(
        self, work: Work[Actor], presented: ParsedRefreshToken, *, client: AskingClient
    ) -> tuple[Session, Holdings]:
        """Return the live session of this token, whatever its generation, and what is held now."""
        values = _values_of_presented(work, presented, client=client)
        row = (await work.db.execute(statements.FIND, values)).one_or_none()
        if row is None:
            age = age_of(presented.session_id, now=work.now)
            await require_known(work.db, presented.session_id, age=age, bound=self._bound)
            raise RefreshTokenRefused
        granted, limit, *session = row
        found = Session(**dict(zip(statements.READ, session, strict=True)))
        if not self.proves(presented, found):
            raise RefreshTokenRefused
        return found, Holdings(read_granted(granted), read_limit(limit))


def _values_of_presented(
    work: Work[Actor], presented: ParsedRefreshToken, *, client: AskingClient
) -> dict[str, Any]:
    return {
        "session": presented.session_id,
        "client": client.client_id,
        "authenticated": client.authenticated,
        "at": work.now,
    }


def _values_of_use(
    work: Work[Actor], presented: ParsedRefreshToken, *, client: AskingClient, terms: Terms
) -> dict[str, Any]:
    return {
        **_values_of_presented(work, presented, client=client),
        "used": presented.generation,
        "network": network_of(work.actor.origin.address),
        "agent": user_agent_of(work.actor),
        "idle_until": work.now + terms.idle_timeout,
    }


async def _allow_grace(
    work: Work[Actor], found: Session, presented: ParsedRefreshToken, *, grace: Grace
) -> None:
    """Return if the token is the one just before, within its grace; else end the session."""
    behind = found.generation - presented.generation
    if behind < 1:
        # The token was not yet valid when the UPDATE ran, but it is now; or a process that uses a
        # new primary made it.
        raise MaybeBehind
    in_grace = behind == 1 and found.rotated_at and grace.covers(work.now - found.rotated_at)
    detail: dict[str, object] = {"session": found.id}
    if in_grace:
        if not _from_another_network(found, work.actor):
            return
        detail["rotated_from"] = found.rotated_network
        if not (grace.strict and found.rotated_user_agent != user_agent_of(work.actor)):
            # Probably a device that has just changed networks, so it stays signed in.
            record(work, "session.grace_used", subject=found.user_id, **detail)
            return
    record(work, "session.reuse_detected", subject=found.user_id, **detail)
    await end_session(work, found.id, reason="refresh token reused")
    raise RefreshTokenReused


def _from_another_network(found: Session, actor: Actor) -> bool:
    """Return whether the actor's network is not that of the last rotation, as far as it is known.

    It is not known when an earlier release rotated, which does not keep it.
    """
    known = found.rotated_generation == found.generation
    return known and found.rotated_network != network_of(actor.origin.address)


def _spelled(raw: bytes) -> str:
    return PREFIX + base64.urlsafe_b64encode(raw).decode()


def _proof(secret: bytes, refresh_key: bytes, head: bytes) -> bytes:
    return _mac(_mac(secret, b"proof", refresh_key), b"proof", head)


def _mac(key: bytes, purpose: bytes, message: bytes) -> bytes:
    return mac(key, b"scopegate refresh " + purpose, message)[:MAC_BYTES]
