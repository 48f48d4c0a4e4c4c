"""The signing keys: made once, kept in Postgres with their private part encrypted, held here."""

import base64
import math
import secrets
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwt.algorithms import get_default_algorithms
from sqlalchemy import ColumnElement, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.errors import ConfigurationError, Conflict, NotFound, Unavailable
from app.settings import Algorithm
from app.tokens.models import SigningKey

RSA_BITS = 3072
HMAC_BYTES = 32
RELOAD_INTERVAL = 1.0
"""Seconds: how often, at most, an unknown key id makes the keyring look into the database."""
# Any number will do, as long as nothing else in this database locks it.
KEYS_LOCK = 0x5C09E6A7

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | bytes


class NoSigningKey(Unavailable):
    """Every key is retired, or signs only later."""

    def __init__(self) -> None:
        super().__init__("There is no key to sign with just now.")


class UnreadableKey(ConfigurationError):
    """The private part can't be read with the secrets that are set here."""

    def __init__(self) -> None:
        super().__init__(
            "The signing keys in this database were made under another secret: set "
            "SCOPEGATE_SECRET_KEYS to the one used before, after the new one and a comma"
        )


class KeyNotFound(NotFound):
    """There is no key of that id."""

    def __init__(self) -> None:
        super().__init__("There is no such key: see scopegate key list.")


class LastSigningKey(Conflict):
    """Without this key no token could be signed, now or soon."""

    def __init__(self) -> None:
        super().__init__("No other key can sign: run scopegate key rotate --now first.")


@dataclass(frozen=True, slots=True)
class Key:
    """A signing key in memory. One key, one algorithm: a token never chooses how it is checked."""

    kid: str
    algorithm: str
    private: PrivateKey
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


class Keyring:
    """The keys of this service: the one that signs, and all that verify.

    A copy of the table, loaded again every now and then, and at once for a key id it does not
    know: another replica may have made that key a moment ago.
    """

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        cipher: MultiFernet,
        *,
        algorithm: Algorithm,
    ) -> None:
        self._sessions = sessions
        self._cipher = cipher
        self._algorithm = algorithm
        self._keys: dict[str, Key] = {}
        self._loaded_at = -math.inf
        self.unreadable: list[str] = []
        """The ids of keys that no secret which is set here opens."""

    async def load(self) -> None:
        """Take over the keys as they are in the database now.

        A key that no secret opens is left out and noted: while the secret is being changed, one
        such key must not keep the others from being known.
        """
        self._loaded_at = time.monotonic()
        async with self._sessions() as session:
            rows = await session.scalars(select(SigningKey).order_by(SigningKey.signs_from))
            found = [(row, self._open(row)) for row in rows]
        self._keys = {row.kid: key for row, key in found if key is not None}
        self.unreadable = [row.kid for row, key in found if key is None]

    def signing(self, now: datetime) -> Key:
        """The key that signs: the newest that may, of the chosen algorithm if there is one.

        A key that is about to retire signs only while no other can: what it signs would not be
        verified for long.
        """
        usable = [
            key for key in self._keys.values() if key.signs_from <= now and not key.is_retired(now)
        ]
        if not usable:
            raise NoSigningKey
        return max(
            usable,
            key=lambda key: (
                key.retires_at is None,
                key.algorithm == self._algorithm,
                key.signs_from,
            ),
        )

    async def find(self, kid: object, *, now: datetime) -> Key | None:
        """The key of that id, if it is one of ours and not retired."""
        if not isinstance(kid, str):
            return None
        if kid not in self._keys and time.monotonic() - self._loaded_at > RELOAD_INTERVAL:
            # Bounded, because key ids are whatever a caller writes into a token.
            await self.load()
        key = self._keys.get(kid)
        return None if key is None or key.is_retired(now) else key

    def jwks(self, now: datetime) -> dict[str, list[dict[str, Any]]]:
        """The public keys, also those that will sign later, as a JWK Set (RFC 7517 §5)."""
        keys = (key for key in self._keys.values() if not key.is_retired(now))
        return {"keys": [jwk for key in keys if (jwk := key.public_jwk()) is not None]}

    def _open(self, row: SigningKey) -> Key | None:
        known = self._keys.get(row.kid)
        try:
            private = known.private if known else decrypt_private_key(row, self._cipher)
        except UnreadableKey:
            return None
        return Key(row.kid, row.algorithm, private, row.signs_from, row.retires_at)


def key_cipher(secret_keys: list[str]) -> MultiFernet:
    """The cipher for private keys. The first secret encrypts, all of them decrypt."""
    return MultiFernet([Fernet(_derive(secret)) for secret in secret_keys])


async def adopt_algorithm(
    session: AsyncSession,
    cipher: MultiFernet,
    *,
    algorithm: Algorithm,
    publication: timedelta,
    overlap: timedelta,
    now: datetime,
) -> None:
    """See to it that a key of this algorithm signs; another algorithm's is rotated out."""
    await _lock_keys(session)
    present = await session.scalars(select(SigningKey.algorithm).where(_not_retiring()))
    if algorithm not in present.all():
        await rotate_key(
            session,
            cipher,
            algorithm=algorithm,
            publication=publication,
            overlap=overlap,
            now=now,
        )


async def ensure_first_key(
    session: AsyncSession, cipher: MultiFernet, *, algorithm: Algorithm, now: datetime
) -> None:
    """See to it that there is a key at all. The first signs at once: nobody has cached others."""
    await _lock_keys(session)
    if await session.scalar(select(SigningKey.kid).limit(1)) is None:
        await rotate_key(
            session,
            cipher,
            algorithm=algorithm,
            publication=timedelta(),
            overlap=timedelta(),
            now=now,
        )


async def rotate_key(
    session: AsyncSession,
    cipher: MultiFernet,
    *,
    algorithm: Algorithm,
    publication: timedelta,
    overlap: timedelta,
    now: datetime,
) -> SigningKey:
    """A new key, published now and signing after `publication`.

    The present keys verify for `overlap` longer: until the last token that they may sign expires.
    """
    await _lock_keys(session)
    signs_from = now + publication
    await session.execute(
        update(SigningKey).where(_not_retiring()).values(retires_at=signs_from + overlap)
    )
    key = SigningKey(
        kid=secrets.token_hex(12),
        algorithm=algorithm,
        encrypted_private_key=cipher.encrypt(_serialise(_generate(algorithm))).decode(),
        signs_from=signs_from,
        retires_at=None,
    )
    session.add(key)
    await session.flush()
    return key


async def retire_key(session: AsyncSession, kid: str, *, now: datetime) -> None:
    """That key verifies nothing from now on: for a key that has leaked.

    Raises KeyNotFound, or LastSigningKey when nothing would be left to sign with.
    """
    await _lock_keys(session)
    keys = list(await session.scalars(select(SigningKey)))
    if not any(key.kid == kid for key in keys):
        raise KeyNotFound
    others = [key for key in keys if key.kid != kid]
    signs_now = any(_signs(key, now) for key in others)
    stays = any(key.retires_at is None for key in others)
    if not (signs_now and stays):
        raise LastSigningKey
    await session.execute(update(SigningKey).where(SigningKey.kid == kid).values(retires_at=now))


async def list_keys(session: AsyncSession) -> list[SigningKey]:
    """All keys that are kept, oldest first."""
    return list(await session.scalars(select(SigningKey).order_by(SigningKey.signs_from)))


async def rewrap_keys(session: AsyncSession, cipher: MultiFernet) -> int:
    """Encrypt every private key anew, under the first secret; how many there were."""
    await _lock_keys(session)
    keys = await list_keys(session)
    for key in keys:
        key.encrypted_private_key = cipher.rotate(key.encrypted_private_key.encode()).decode()
    await session.flush()
    return len(keys)


async def _lock_keys(session: AsyncSession) -> None:
    # Replicas that start together, or two who rotate at once, must agree on one key.
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": KEYS_LOCK})


def _not_retiring() -> ColumnElement[bool]:
    return SigningKey.retires_at.is_(None)


def _signs(key: SigningKey, now: datetime) -> bool:
    return key.signs_from <= now and (key.retires_at is None or key.retires_at > now)


def _derive(secret: str) -> bytes:
    kdf = HKDF(hashes.SHA256(), 32, salt=None, info=b"scopegate signing keys")
    return base64.urlsafe_b64encode(kdf.derive(secret.encode()))


def _generate(algorithm: Algorithm) -> PrivateKey:
    match algorithm:
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "RS256":
            return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
        case "HS256":
            return secrets.token_bytes(HMAC_BYTES)


def _serialise(private: PrivateKey) -> bytes:
    if isinstance(private, bytes):
        return private
    return private.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def decrypt_private_key(row: SigningKey, cipher: MultiFernet) -> PrivateKey:
    """The private part. Raises UnreadableKey when no secret that is set now opens it."""
    try:
        serialised = cipher.decrypt(row.encrypted_private_key.encode())
    except InvalidToken:
        raise UnreadableKey from None
    if row.algorithm == "HS256":
        return serialised
    private = serialization.load_der_private_key(serialised, password=None)
    if not isinstance(private, PrivateKey):
        raise UnreadableKey
    return private
