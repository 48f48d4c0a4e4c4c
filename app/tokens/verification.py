"""Verification: from the string that a request carries to claims that can be relied on."""

from datetime import datetime

from app.errors import InvalidToken
from app.tokens.jwt import Claims, JwtFormat


def verify_access_token(token: str, tokens: JwtFormat, *, now: datetime) -> Claims:
    """The claims of one of our tokens that has not expired. Raises InvalidToken.

    Says nothing of what has happened since it was issued: `access.principals` does.
    """
    claims = tokens.decode(token)
    if claims.expires_at <= now:
        raise InvalidToken
    return claims
