"""The signing keys: made once, kept in Postgres with their private part encrypted, held here."""

import base64
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwt.algorithms import get_default_algorithms
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import ConfigurationError
from app.settings import Algorithm
from app.tokens.models import SigningKey

RSA_BITS = 3072
HMAC_BYTES = 32
# Any number will do, as long as nothing else in this database locks it.
KEY_MAKING_LOCK = 0x5C09E6A7

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | bytes


@dataclass(frozen=True, slots=True)
class Key:
    """A signing key in memory. One key, one algorithm: a token never chooses how it is checked."""

    kid: str
    algorithm: str
    private: PrivateKey

    @property
    def verifying(self) -> Any:
        """What a signature is verified with: the public part, or the shared secret of an HMAC."""
        return self.private if isinstance(self.private, bytes) else self.private.public_key()

    def public_jwk(self) -> dict[str, Any] | None:
        """The key as a JWKS publishes it (RFC 7517); None for an HMAC's: it has no public part."""
        if isinstance(self.private, bytes):
            return None
        jwk = get_default_algorithms()[self.algorithm].to_jwk(self.verifying, as_dict=True)
        return {**jwk, "kid": self.kid, "alg": self.algorithm, "use": "sig"}


class Keyring:
    """The keys of this service: the one that signs, and all that verify."""

    def __init__(self, keys: Iterable[Key], *, algorithm: Algorithm) -> None:
        """`keys`, oldest first; the newest of the algorithm signs, and there must be one."""
        self._keys = {key.kid: key for key in keys}
        self.signing = [key for key in self._keys.values() if key.algorithm == algorithm][-1]

    def find(self, kid: object) -> Key | None:
        """The key of that id, if it is one of ours."""
        return self._keys.get(kid) if isinstance(kid, str) else None

    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """The public keys, as a JSON Web Key Set (RFC 7517 §5)."""
        public = (key.public_jwk() for key in self._keys.values())
        return {"keys": [jwk for jwk in public if jwk is not None]}


def key_cipher(secret_keys: list[str]) -> MultiFernet:
    """The cipher for private keys. The first secret encrypts, all of them decrypt."""
    return MultiFernet([Fernet(_derive(secret)) for secret in secret_keys])


async def load_keyring(
    session: AsyncSession, cipher: MultiFernet, *, algorithm: Algorithm
) -> Keyring:
    """The keys in the database; the first one of the algorithm is made here when there is none.

    Raises ConfigurationError when a key was encrypted under a secret that is not set now.
    """
    # Replicas that start together must agree on one key.
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": KEY_MAKING_LOCK})
    rows = list(await session.scalars(select(SigningKey).order_by(SigningKey.created_at)))
    if not any(row.algorithm == algorithm for row in rows):
        row = SigningKey(
            kid=secrets.token_urlsafe(12),
            algorithm=algorithm,
            encrypted_private_key=cipher.encrypt(_serialise(_generate(algorithm))).decode(),
        )
        session.add(row)
        await session.flush()
        rows.append(row)
    return Keyring([_decrypt(row, cipher) for row in rows], algorithm=algorithm)


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


def _decrypt(row: SigningKey, cipher: MultiFernet) -> Key:
    try:
        serialised = cipher.decrypt(row.encrypted_private_key.encode())
    except InvalidToken:
        raise ConfigurationError(
            "The signing keys in this database were made under another secret: set "
            "SCOPEGATE_SECRET_KEYS to the one used before, after the new one and a comma"
        ) from None
    if row.algorithm == "HS256":
        return Key(row.kid, row.algorithm, serialised)
    private = serialization.load_der_private_key(serialised, password=None)
    if not isinstance(private, PrivateKey):
        raise ConfigurationError(f"The signing key {row.kid} is of a kind not used here")
    return Key(row.kid, row.algorithm, private)
