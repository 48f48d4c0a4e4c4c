"""Verification: from the string that a request carries to claims that can be relied on."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.errors import InvalidToken
from app.tokens.jwt import Claims, JwtFormat
from app.tokens.opaque import is_opaque, read_opaque_token


async def read_access_token(
    token: str, jwt: JwtFormat, sessions: async_sessionmaker[AsyncSession], *, now: datetime
) -> Claims:
    """The claims of one of our access tokens, of either format, expired or not.

    Whichever format is issued now: tokens of the other go on working. Raises InvalidToken.
    """
    if is_opaque(token):
        return await read_opaque_token(sessions, token)
    return await jwt.decode(token, now=now)


async def verify_access_token(
    token: str, jwt: JwtFormat, sessions: async_sessionmaker[AsyncSession], *, now: datetime
) -> Claims:
    """The claims of one of our access tokens that has not expired. Raises InvalidToken.

    Says nothing of what has happened since it was issued: `access.principals` does.
    """
    claims = await read_access_token(token, jwt, sessions, now=now)
    if claims.expires_at <= now:
        raise InvalidToken
    return claims
