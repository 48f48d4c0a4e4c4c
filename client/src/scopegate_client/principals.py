"""Whom a token stands for: parsed once, from a JWT's claims or from an answer of introspection."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


class InvalidToken(Exception):
    """The token is malformed, forged, expired, revoked, or meant for another service."""


class Unavailable(Exception):
    """Scopegate must be asked about the token, and does not answer. The token must not pass."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request, and which scopes count for it at this moment."""

    subject: str
    scopes: frozenset[str]
    client_id: str
    session_id: str
    issued_at: datetime
    expires_at: datetime
    claims: Mapping[str, Any]
    """All that the token says; of an opaque token, all that introspection answered."""


def parse(claims: Mapping[str, Any]) -> Principal:
    """Return what these claims say (RFC 9068 §2.2, RFC 7662 §2.2).

    Raises ValueError when one is missing or of a wrong type.
    """
    texts: list[Any] = [claims.get(name) for name in ("sub", "scope", "client_id", "sid", "jti")]
    times: list[Any] = [claims.get(name) for name in ("iat", "exp")]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a claim is missing, or is not a string")
    # Before the year 2500: a later time is a mistake, and may be more than datetime can hold.
    if not all(type(second) in (int, float) and 0 <= second < 2**34 for second in times):
        raise ValueError("a time is missing, or is not a number of seconds")
    subject, scope, client_id, session_id, _ = texts
    issued_at, expires_at = (datetime.fromtimestamp(int(second), UTC) for second in times)
    scopes = frozenset(scope.split())
    return Principal(subject, scopes, client_id, session_id, issued_at, expires_at, claims)
