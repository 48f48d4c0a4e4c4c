"""Signing keys in Postgres: made, rotated, retired, and their private part encrypted.

A transaction that changes them holds one lock, so that replicas that start together, or two that
rotate at once, agree.
"""

import secrets
from datetime import datetime, timedelta

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from sqlalchemy import ColumnElement, and_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.log import record
from app.crypto import fernet_key
from app.db.changes import Change
from app.db.locks import Lock, take_lock
from app.db.work import Actor, Work
from app.errors import ConfigurationError, Conflict, NotFound
from app.settings import Algorithm
from app.tokens.models import ACCESS_TOKENS, ID_TOKENS, SigningKey

RSA_BITS = 3072
ID_TOKEN_RSA_BITS = 2048
"""What such a key signs is read within minutes. To make a longer key takes longer."""
HMAC_BYTES = 32
THE_SERVICE = Actor()
"""Who makes the keys that the service needs by itself."""

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | bytes


class UnreadableKey(ConfigurationError):
    """The private part can't be read with the secrets that are set here."""

    text = (
        "The signing keys in this database were made under another secret: set "
        "SCOPEGATE_SECRET_KEYS to the one used before, after the new one and a comma"
    )


class KeyNotFound(NotFound):
    """There is no key of that id."""

    text = "There is no such key: see scopegate key list."


class LastSigningKey(Conflict):
    """Without this key no token could be signed, now or soon."""

    text = "No other key can sign in its place: run scopegate key rotate --now first."


def key_cipher(secret_keys: list[str]) -> MultiFernet:
    """The cipher for private keys. The first secret encrypts, all of them decrypt."""
    keys = [fernet_key(each, b"scopegate signing keys") for each in secret_keys]
    return MultiFernet([Fernet(each) for each in keys])


async def adopt_algorithm(
    work: Work[Actor],
    cipher: MultiFernet,
    *,
    algorithm: Algorithm,
    publication: timedelta,
    overlap: timedelta,
) -> None:
    """See to it that a key of this algorithm signs; another algorithm's is rotated out."""
    await _lock_keys(work)
    present = await work.db.scalars(
        select(SigningKey.algorithm).where(_not_retiring(ACCESS_TOKENS))
    )
    if algorithm not in present.all():
        await rotate_key(
            work, cipher, algorithm=algorithm, publication=publication, overlap=overlap
        )


async def ensure_first_key(work: Work[Actor], cipher: MultiFernet, *, algorithm: Algorithm) -> None:
    """Make the first key if there is none. It signs at once: no client has cached others."""
    await _lock_keys(work)
    if await work.db.scalar(select(SigningKey.kid).limit(1)) is None:
        await rotate_key(
            work, cipher, algorithm=algorithm, publication=timedelta(), overlap=timedelta()
        )


async def ensure_id_token_key(work: Work[Actor], cipher: MultiFernet) -> None:
    """Make a key for ID tokens if there is none that stays. It signs at once."""
    await _lock_keys(work)
    present = select(SigningKey.kid).where(_not_retiring(ID_TOKENS)).limit(1)
    if await work.db.scalar(present) is None:
        await rotate_key(
            work,
            cipher,
            algorithm="RS256",
            purpose=ID_TOKENS,
            publication=timedelta(),
            overlap=timedelta(),
        )


async def rotate_key(
    work: Work[Actor],
    cipher: MultiFernet,
    *,
    algorithm: Algorithm,
    purpose: str = ACCESS_TOKENS,
    publication: timedelta,
    overlap: timedelta,
) -> SigningKey:
    """A new key, published now and signing after `publication`.

    The present keys of the same purpose verify for `overlap` longer: until the last token that they
    may sign expires. Keys for ID tokens are of RS256.
    """
    await _lock_keys(work)
    signs_from = work.now + publication
    await work.db.execute(
        update(SigningKey).where(_not_retiring(purpose)).values(retires_at=signs_from + overlap)
    )
    bits = ID_TOKEN_RSA_BITS if purpose == ID_TOKENS else RSA_BITS
    private = _generate(algorithm, rsa_bits=bits)
    key = SigningKey(
        kid=secrets.token_hex(12),
        algorithm=algorithm,
        purpose=purpose,
        encrypted_private_key=cipher.encrypt(_serialise(private)).decode(),
        signs_from=signs_from,
    )
    work.db.add(key)
    await work.db.flush()
    record(work, "key.rotated", made=key.kid, algorithm=algorithm)
    return key


async def retire_key(work: Work[Actor], kid: str) -> None:
    """That key verifies nothing from now on: for a key that has leaked.

    Raises KeyNotFound, or LastSigningKey when nothing would be left to sign with.
    """
    await _lock_keys(work)
    keys = list(await work.db.scalars(select(SigningKey)))
    found = next((key for key in keys if key.kid == kid), None)
    if found is None:
        raise KeyNotFound
    others = [key for key in keys if key.purpose == found.purpose and key is not found]
    signs_now = any(_signs(key, work.now) for key in others)
    stays = any(key.retires_at is None for key in others)
    if not (signs_now and stays):
        raise LastSigningKey
    await work.db.execute(
        update(SigningKey).where(SigningKey.kid == kid).values(retires_at=work.now)
    )
    record(work, "key.rotated", retired=kid)


async def list_keys(db: AsyncSession) -> list[SigningKey]:
    """All keys that are kept, oldest first."""
    return list(await db.scalars(select(SigningKey).order_by(SigningKey.signs_from)))


async def rewrap_keys(work: Work[Actor], cipher: MultiFernet) -> int:
    """Encrypt every private key anew, under the first secret; how many there were."""
    await _lock_keys(work)
    keys = await list_keys(work.db)
    for key in keys:
        key.encrypted_private_key = cipher.rotate(key.encrypted_private_key.encode()).decode()
    await work.db.flush()
    return len(keys)


async def _lock_keys(work: Work[Actor]) -> None:
    """Change the keys alone; and let this process read them anew afterwards."""
    work.publish(Change("keys"))
    await take_lock(work.db, Lock.SIGNING_KEYS)


def _not_retiring(purpose: str) -> ColumnElement[bool]:
    return and_(SigningKey.purpose == purpose, SigningKey.retires_at.is_(None))


def _signs(key: SigningKey, now: datetime) -> bool:
    return key.signs_from <= now and (key.retires_at is None or key.retires_at > now)


def _generate(algorithm: Algorithm, *, rsa_bits: int) -> PrivateKey:
    match algorithm:
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "RS256":
            return rsa.generate_private_key(public_exponent=65537, key_size=rsa_bits)
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
