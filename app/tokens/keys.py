"""Signing keys in Postgres: made, rotated, retired, and their private part encrypted.

Whoever changes them holds one lock, so that replicas that start together, or two who rotate at
once, agree.
"""

import base64
import secrets
from datetime import datetime, timedelta

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import ColumnElement, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.log import Actor, record
from app.db.changes import Change, announce
from app.errors import ConfigurationError, Conflict, NotFound
from app.settings import Algorithm
from app.tokens.models import SigningKey

RSA_BITS = 3072
HMAC_BYTES = 32
# Any number will do, as long as nothing else in this database locks it.
KEYS_LOCK = 0x5C09E6A7
THE_SERVICE = Actor()
"""Who makes the keys that nobody asked for."""

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | bytes


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
            by=THE_SERVICE,
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
            by=THE_SERVICE,
            now=now,
        )


async def rotate_key(
    session: AsyncSession,
    cipher: MultiFernet,
    *,
    algorithm: Algorithm,
    publication: timedelta,
    overlap: timedelta,
    by: Actor,
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
    )
    session.add(key)
    await session.flush()
    record(session, "key.rotated", by=by, made=key.kid, algorithm=algorithm)
    return key


async def retire_key(session: AsyncSession, kid: str, *, by: Actor, now: datetime) -> None:
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
    record(session, "key.rotated", by=by, retired=kid)


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
    """Change the keys alone; and let this process read them anew afterwards."""
    announce(session, Change("keys"))
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
