"""Revocation: whoever holds a token may end it, and with it its session (RFC 7009)."""

import uuid
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.errors import InvalidToken
from app.identity.models import Session
from app.identity.sessions import end_session
from app.tokens.issuing import Issuer
from app.tokens.verification import AccessTokens


async def revoke_token(
    token: str,
    issuer: Issuer,
    access_tokens: AccessTokens,
    sessions: async_sessionmaker[AsyncSession],
    *,
    now: datetime,
) -> None:
    """End the session of an access or refresh token; nothing happens for a string that is neither.

    By the session and never by the token's bytes, which can be rewritten. A JWT that has expired
    will do: who once held it may sign out. One connection at a time.
    """
    session_id = await _session_of(token, issuer, access_tokens, sessions, now=now)
    if session_id is not None:
        async with sessions.begin() as session:
            await end_session(session, session_id, reason="token revoked", now=now)


async def _session_of(
    token: str,
    issuer: Issuer,
    access_tokens: AccessTokens,
    sessions: async_sessionmaker[AsyncSession],
    *,
    now: datetime,
) -> uuid.UUID | None:
    """The session that this token proves to be its holder's."""
    presented = issuer.refresh_tokens.read(token)
    if presented is not None:
        async with sessions() as session:
            row = await session.get(Session, presented.session_id)
        proven = row is not None and issuer.refresh_tokens.proves(presented, row)
        return presented.session_id if proven else None
    try:
        return (await access_tokens.read(token, now=now)).session_id
    except InvalidToken:
        return None
