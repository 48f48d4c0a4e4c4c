"""The keyring: the signing keys as one process holds them, and which of them signs."""

import asyncio
import contextlib
import math
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.fernet import MultiFernet
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db.changes import Change, ChangeFeed
from app.db.engine import DATABASE_GONE
from app.errors import Unavailable
from app.identity.models import ID_TOKEN_ALGORITHM
from app.settings import Algorithm
from app.tokens.keys import PrivateKey, UnreadableKey, decrypt_private_key, list_keys
from app.tokens.models import ACCESS_TOKENS, ID_TOKENS, SigningKey

RELOAD_INTERVAL = 1.0
"""Seconds between two reloads that no notification has caused."""


class NoSigningKey(Unavailable):
    """Every key is retired, or signs only later."""

    text = "There is no key to sign with just now."


@dataclass(frozen=True, slots=True)
class Key:
    """A signing key in memory. One key, one algorithm: a token never chooses how it is checked."""

    kid: str
    algorithm: str
    purpose: str
    """What it signs."""
    private: PrivateKey
    encrypted: str
    signs_from: datetime
    retires_at: datetime | None

    @property
    def verifying(self) -> Any:
        """What a signature is verified with: the public part, or the shared secret of an HMAC."""
        return self.private if isinstance(self.private, bytes) else self.private.public_key()

    def is_retired(self, now: datetime) -> bool:
        """Whether the key verifies nothing any more."""
        return self.retires_at is not None and self.retires_at <= now

    def public_jwk(self) -> dict[str, Any] | None:
        """The key as a JWKS publishes it (RFC 7517); None for an HMAC's: it has no public part."""
        if isinstance(self.private, bytes):
            return None
        jwk = get_default_algorithms()[self.algorithm].to_jwk(self.verifying, as_dict=True)
        return {**jwk, "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def public_pem(self) -> str | None:
        """The key as PEM, for gateways that read no JWKS; None for an HMAC's."""
        if isinstance(self.private, bytes):
            return None
        public = self.private.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class Keyring:
    """The keys of this service: the one that signs, and all that verify.

    A copy of the table, read again when the change feed has told of a change. While the feed is
    not fresh it is read again every RELOAD_INTERVAL, if it is used.
    """

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        cipher: MultiFernet,
        feed: ChangeFeed,
        *,
        algorithm: Algorithm,
    ) -> None:
        self._sessions = sessions
        self._cipher = cipher
        self._feed = feed
        self._algorithm = algorithm
        self._keys: dict[str, Key] = {}
        self._changes = 0
        self._changes_read = -1
        self._read_at = self._tried_at = -math.inf
        self._loading: asyncio.Task[None] | None = None
        self.unreadable: list[str] = []
        """The ids of keys that no secret which is set here opens."""
        feed.subscribe(self.on_change)

    def on_change(self, change: Change) -> None:
        """Read the keys again before they are used next, if the change may concern them."""
        if change.kind in {"keys", "everything"}:
            self._changes += 1

    async def refresh(self) -> None:
        """See to it that these are the keys as they are in the database."""
        recently = time.monotonic() - self._read_at < min(RELOAD_INTERVAL, self._feed.bound)
        if not (recently or self._feed.fresh()):
            await self.load()
        # Twice at the most: a load that was under way may have begun before the change.
        for _ in range(2):
            if self._changes_read != self._changes:
                await self.load()

    async def load(self) -> None:
        """Load the keys from the database; concurrent callers share one load.

        A key that no configured secret decrypts is skipped and listed in `unreadable`. While the
        secret is being changed, one such key must not block the others.
        """
        if self._loading is None or self._loading.done():
            self._tried_at = time.monotonic()
            self._loading = asyncio.create_task(self._load())
        # Shielded: when one waiting request is cancelled, the load continues for the others.
        await asyncio.shield(self._loading)

    async def _load(self) -> None:
        changes, read_at = self._changes, time.monotonic()
        async with self._sessions() as db:
            found = [(row, self._open(row)) for row in await list_keys(db)]
        self._keys = {row.kid: key for row, key in found if key is not None}
        self.unreadable = [row.kid for row, key in found if key is None]
        self._changes_read, self._read_at = changes, read_at

    def signing(self, now: datetime) -> Key:
        """Return the key to sign with: the newest usable one, if possible of the set algorithm.

        A key with a retirement time signs only if there is no other: its signatures would not be
        verified for long. Raises NoSigningKey.
        """
        return self._newest(self._usable(ACCESS_TOKENS, now))

    def signing_id_tokens(self, now: datetime, algorithm: str) -> Key:
        """Return the key that signs ID tokens for a client that wants this algorithm.

        Where no key of it signs, that of RS256. Raises NoSigningKey.
        """
        chosen = [key for key in self._usable(ACCESS_TOKENS, now) if key.algorithm == algorithm]
        if algorithm == ID_TOKEN_ALGORITHM or not chosen:
            chosen = self._usable(ID_TOKENS, now)
        return self._newest(chosen)

    def signing_now(self, now: datetime) -> set[str]:
        """Return the ids of the keys that sign, of each purpose."""
        usable = (self._usable(purpose, now) for purpose in (ACCESS_TOKENS, ID_TOKENS))
        return {self._newest(keys).kid for keys in usable if keys}

    def _usable(self, purpose: str, now: datetime) -> list[Key]:
        return [
            key
            for key in self._keys.values()
            if key.purpose == purpose and key.signs_from <= now and not key.is_retired(now)
        ]

    def _newest(self, usable: list[Key]) -> Key:
        if not usable:
            raise NoSigningKey

        def fitness(key: Key) -> tuple[bool, bool, datetime]:
            return key.retires_at is None, key.algorithm == self._algorithm, key.signs_from

        return max(usable, key=fitness)

    def algorithms(self, now: datetime) -> list[str]:
        """The algorithms of all keys that are not retired, the chosen one first."""
        used = {key.algorithm for key in self._keys.values() if not key.is_retired(now)}
        return sorted(used, key=lambda each: (each != self._algorithm, each))

    async def find(self, kid: object, *, now: datetime) -> Key | None:
        """The key of that id, if it is one of ours and not retired."""
        if not isinstance(kid, str):
            return None
        await self.refresh()
        if kid not in self._keys and time.monotonic() - self._tried_at > RELOAD_INTERVAL:
            # Another replica may have made it this very moment. Bounded, because key ids are
            # whatever a caller writes into a token.
            await self.load()
        key = self._keys.get(kid)
        return None if key is None or key.is_retired(now) else key

    async def jwks(self, now: datetime) -> dict[str, list[dict[str, Any]]]:
        """The public keys, also those that will sign later, as a JWK Set (RFC 7517 §5).

        Without the database, the last known keys: other services verify with them and must
        continue.
        """
        with contextlib.suppress(DBAPIError, *DATABASE_GONE):
            await self.refresh()
        keys = (key for key in self._keys.values() if not key.is_retired(now))
        return {"keys": [jwk for key in keys if (jwk := key.public_jwk()) is not None]}

    def _open(self, row: SigningKey) -> Key | None:
        known = self._keys.get(row.kid)
        try:
            if known and known.encrypted == row.encrypted_private_key:
                private = known.private
            else:
                private = decrypt_private_key(row, self._cipher)
        except UnreadableKey:
            return None
        return Key(
            kid=row.kid,
            algorithm=row.algorithm,
            purpose=row.purpose,
            private=private,
            encrypted=row.encrypted_private_key,
            signs_from=row.signs_from,
            retires_at=row.retires_at,
        )
