"""Verification: from the string that a request carries to whom it stands for."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.principals import Principal, load_principal
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
) -> tuple[Claims, Principal]:
    """What the token says, and whom it stands for at this moment with what they hold now.

    Raises InvalidToken when it has expired, or its session or user is no more.
    """
    claims = await read_access_token(token, jwt, sessions, now=now)
    if claims.expires_at <= now:
        raise InvalidToken
    principal = await load_principal(
        sessions,
        session_id=claims.session_id,
        user_id=claims.subject,
        token_scopes=claims.scopes,
        now=now,
    )
    if principal is None:
        raise InvalidToken
    return claims, principal
