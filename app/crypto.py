"""Digests, MACs and derived keys: the one way to make each of them."""

import base64
import hashlib
import hmac

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def digest(text: str) -> bytes:
    """Return what stands for a random secret where the secret itself must not be kept.

    Fast is enough for 256 random bits. Any string has one, also what is not valid Unicode.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def mac(key: bytes, purpose: bytes, message: bytes) -> bytes:
    """Return the 32 bytes of HMAC-SHA256, which differ for each purpose."""
    return hmac.digest(key, purpose + b"\0" + message, "sha256")


class KeyedDigests:
    """Keyed digests of what must not be kept itself, but be recognised when it comes again.

    The service's first secret makes them. All secrets recognise them, because secrets rotate.
    """

    def __init__(self, secret_keys: list[str]) -> None:
        self._keys = [key.encode() for key in secret_keys]

    def make(self, purpose: bytes, message: bytes) -> bytes:
        """Return the digest to keep."""
        return mac(self._keys[0], purpose, message)

    def recognise(self, purpose: bytes, message: bytes) -> list[bytes]:
        """Return each digest that may have been kept of this message."""
        return [mac(key, purpose, message) for key in self._keys]


def fernet_key(secret: str, purpose: bytes) -> bytes:
    """Return a key for Fernet, derived from the service's secret by HKDF (RFC 5869)."""
    kdf = HKDF(hashes.SHA256(), 32, salt=None, info=purpose)
    return base64.urlsafe_b64encode(kdf.derive(secret.encode()))
