"""ID tokens: what tells a client who has signed in, when and how (OpenID Connect Core §2)."""

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jwt import PyJWT, PyJWTError, get_unverified_header

from app.identity.models import ID_TOKEN_ALGORITHM
from app.tokens.jwt import MAX_TOKEN_BYTES, Claims
from app.tokens.keyring import Keyring

PASSWORD_ALONE = "1"
"""`acr`, the level of the sign-in: one factor (ISO/IEC 29115 calls more than a password higher)."""
CLAIMS = (
    *("iss", "sub", "aud", "azp", "iat", "exp", "auth_time", "acr", "amr", "sid", "at_hash"),
    "nonce",
)
"""What ID tokens say; `nonce` where the request had one."""

_pyjwt = PyJWT(options={"enforce_minimum_key_length": True})


@dataclass(frozen=True, slots=True)
class IdClaims:
    """What an ID token says beside what the access token of the same answer does."""

    access: Claims
    nonce: str | None
    """As the authorization request had it, so that the client knows the answer for its own."""
    signed_in_at: datetime
    methods: tuple[str, ...]
    """By what the person has shown who they are: names of RFC 8176."""


@dataclass(frozen=True, slots=True)
class Hint:
    """What a client's `id_token_hint` says: an ID token of ours, expired or not."""

    subject: str
    client_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class IdTokens:
    """How this service writes ID tokens, and reads them as hints."""

    keyring: Keyring
    issuer: str

    def encode(self, claims: IdClaims, *, access_token: str, algorithm: str | None) -> str:
        """Return the ID token that goes along with this access token, signed by `algorithm`.

        It expires with the access token. Raises NoSigningKey.
        """
        access = claims.access
        key = self.keyring.signing_id_tokens(access.issued_at, algorithm or ID_TOKEN_ALGORITHM)
        payload: dict[str, Any] = {
            "iss": self.issuer,
            "sub": str(access.subject),
            "aud": access.client_id,
            "azp": access.client_id,
            "iat": int(access.issued_at.timestamp()),
            "exp": int(access.expires_at.timestamp()),
            "auth_time": int(claims.signed_in_at.timestamp()),
            "acr": PASSWORD_ALONE,
            "amr": list(claims.methods),
            "sid": str(access.session_id),
            "at_hash": half_hash(access_token, key.algorithm),
        }
        if claims.nonce is not None:
            payload["nonce"] = claims.nonce
        headers = {"kid": key.kid}
        return _pyjwt.encode(payload, key.private, algorithm=key.algorithm, headers=headers)

    async def read_hint(self, token: str, *, now: datetime) -> Hint | None:
        """Return what an ID token of ours says, expired or not; None for any other text."""
        if len(token) > MAX_TOKEN_BYTES:
            return None
        try:
            header = get_unverified_header(token)
            key = await self.keyring.find(header.get("kid"), now=now)
            if key is None or header.get("typ") != "JWT":
                return None
            said = _pyjwt.decode(
                token,
                key.verifying,
                algorithms=[key.algorithm],
                issuer=self.issuer,
                options={
                    "require": ["iss", "aud", "sub", "sid"],
                    "verify_aud": False,
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
        # Anyone can send any bytes: whatever error a parser raises for them, they are no ID token.
        except (PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            return None
        texts = [said[name] for name in ("sub", "aud", "sid")]
        return Hint(*texts) if all(isinstance(each, str) for each in texts) else None


def half_hash(token: str, algorithm: str) -> str:
    """Return `at_hash` of a token: half of its hash (OpenID Connect Core §3.1.3.6)."""
    # Ed25519 hashes by SHA-512, as clients take it for EdDSA. All others here by SHA-256.
    hashed = (hashlib.sha512 if algorithm == "EdDSA" else hashlib.sha256)(token.encode()).digest()
    return base64.urlsafe_b64encode(hashed[: len(hashed) // 2]).decode().rstrip("=")
