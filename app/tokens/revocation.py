"""Revocation: whoever holds a token may end it, and with it its session (RFC 7009)."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.errors import InvalidToken
from app.identity.models import Session
from app.identity.sessions import end_session
from app.tokens.issuing import Issuer
from app.tokens.verification import read_access_token

REASON = "token revoked"


async def revoke_token(
    session: AsyncSession,
    sessions: async_sessionmaker[AsyncSession],
    issuer: Issuer,
    token: str,
    *,
    now: datetime,
) -> None:
    """End the session of an access or refresh token; nothing happens for a string that is neither.

    By the session and never by the token's bytes, which can be rewritten. An expired token will
    do: who once held it may sign out.
    """
    presented = issuer.refresh_tokens.read(token)
    if presented is not None:
        row = await session.get(Session, presented.session_id)
        if row is not None and issuer.refresh_tokens.proves(presented, row):
            await end_session(session, row.id, reason=REASON, now=now)
        return
    try:
        claims = await read_access_token(token, issuer.jwt, sessions, now=now)
    except InvalidToken:
        return
    await end_session(session, claims.session_id, reason=REASON, now=now)
