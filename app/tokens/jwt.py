"""JWT access tokens by RFC 9068: claims to a signed string and back."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jwt import PyJWT, PyJWTError, get_unverified_header
from jwt.utils import base64url_encode

from app.access.scopes import format_scope
from app.errors import InvalidScope, InvalidToken
from app.tokens.keyring import Key, Keyring

TOKEN_TYPE = "at+jwt"
MAX_TOKEN_BYTES = 7 * 1024
"""Of any access token that is issued or read. A header of 8 KiB is the most that proxies take."""
REQUIRED_CLAIMS = ["iss", "aud", "sub", "client_id", "iat", "exp", "jti", "sid", "scope"]

_pyjwt = PyJWT(options={"enforce_minimum_key_length": True})


@dataclass(frozen=True, slots=True)
class Claims:
    """What an access token says, parsed once: code that has one need not check types."""

    subject: uuid.UUID
    session_id: uuid.UUID
    client_id: str
    scopes: frozenset[str]
    issued_at: datetime
    expires_at: datetime
    token_id: uuid.UUID
    key_id: str | None = None
    """The key that its signature was verified with; None for an opaque token."""
    audience: str | None = None
    """The resource that it is for (RFC 8707). None: this service, and all that trust it."""


@dataclass(frozen=True, slots=True)
class JwtFormat:
    """How this service writes and reads its JWTs."""

    keyring: Keyring
    issuer: str
    audience: str

    def encode(self, claims: Claims) -> str:
        """The claims as a JWT, signed with the key that signs at `issued_at`.

        The keyring is not refreshed here: this runs in a transaction, and reading the keys takes a
        connection of its own. Raises InvalidScope for more scopes than a token has room for.
        """
        key = self.keyring.signing(claims.issued_at)
        payload = {
            "iss": self.issuer,
            "aud": claims.audience or self.audience,
            "sub": str(claims.subject),
            "client_id": claims.client_id,
            "iat": int(claims.issued_at.timestamp()),
            "exp": int(claims.expires_at.timestamp()),
            "jti": str(claims.token_id),
            "sid": str(claims.session_id),
            "scope": format_scope(claims.scopes),
        }
        headers = {"kid": key.kid, "typ": TOKEN_TYPE}
        token = _pyjwt.encode(payload, key.private, algorithm=key.algorithm, headers=headers)
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidScope(
                f"The access token would be larger than {MAX_TOKEN_BYTES} bytes: "
                "ask for fewer scopes, or let the service issue opaque tokens."
            )
        return token

    async def decode(self, token: str, *, now: datetime) -> tuple[Claims, Key]:
        """The claims of a token that this service signed, expired or not, and its key.

        The algorithm is the key's, never the token's. Raises InvalidToken for anything else, also
        for another spelling of such a token.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidToken
        try:
            key = await self.keyring.find(get_unverified_header(token).get("kid"), now=now)
            if key is None:
                raise InvalidToken
            return self._verified(token, key), key
        # A client can send any bytes: whatever error a parser raises for them, they are no token.
        except (PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise InvalidToken from None

    def _verified(self, token: str, key: Key) -> Claims:
        decoded = _pyjwt.decode_complete(
            token,
            key.verifying,
            algorithms=[key.algorithm],
            issuer=self.issuer,
            # Whom it is for, verification checks; and times, by this service's clock.
            options={
                "require": REQUIRED_CLAIMS,
                "verify_aud": False,
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
        if decoded["header"].get("typ") != TOKEN_TYPE:
            raise InvalidToken
        # A token has one spelling, without padding (RFC 7515 §2). The signature protects the
        # encoding of everything before it, but Base64 can encode the signature itself in several
        # ways.
        if not token.endswith("." + base64url_encode(decoded["signature"]).decode()):
            raise InvalidToken
        return self._parse(decoded["payload"], key_id=key.kid)

    def _parse(self, payload: dict[str, Any], *, key_id: str) -> Claims:
        texts = [payload[name] for name in ("sub", "client_id", "jti", "sid", "scope", "aud")]
        if not all(isinstance(value, str) for value in texts):
            raise InvalidToken
        return Claims(
            subject=uuid.UUID(payload["sub"]),
            session_id=uuid.UUID(payload["sid"]),
            client_id=payload["client_id"],
            scopes=frozenset(payload["scope"].split()),
            issued_at=datetime.fromtimestamp(payload["iat"], UTC),
            expires_at=datetime.fromtimestamp(payload["exp"], UTC),
            token_id=uuid.UUID(payload["jti"]),
            key_id=key_id,
            audience=None if payload["aud"] == self.audience else payload["aud"],
        )
