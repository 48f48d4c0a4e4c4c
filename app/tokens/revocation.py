"""Revocation: the holder of a token may end it, and with it its session (RFC 7009)."""

import uuid
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db.work import Actor, Database
from app.errors import InvalidToken
from app.identity.models import Session
from app.identity.session_writes import end_session
from app.tokens.issuing import Issuer
from app.tokens.verification import AccessTokens


async def revoke_token(
    token: str,
    issuer: Issuer,
    access_tokens: AccessTokens,
    database: Database,
    *,
    actor: Actor,
) -> None:
    """End the session of an access or refresh token; nothing happens for a string that is neither.

    By the session and never by the token's bytes, which can be rewritten. A JWT that has expired
    will do: who once held it may sign out. One connection at a time.
    """
    proven = await _proven_by(token, issuer, access_tokens, database.sessions, now=database.now())
    if proven is not None:
        session_id, user_id = proven
        async with database.work(actor.signed_in_as(user_id)) as work:
            await end_session(work, session_id, reason="token revoked")


async def _proven_by(
    token: str,
    issuer: Issuer,
    access_tokens: AccessTokens,
    sessions: async_sessionmaker[AsyncSession],
    *,
    now: datetime,
) -> tuple[uuid.UUID, uuid.UUID] | None:
    """The session that this token proves to be its holder's, and the holder."""
    presented = issuer.refresh_tokens.read(token)
    if presented is not None:
        async with sessions() as db:
            row = await db.get(Session, presented.session_id)
        if row is None or not issuer.refresh_tokens.proves(presented, row):
            return None
        return row.id, row.user_id
    try:
        claims = await access_tokens.read(token, now=now)
    except InvalidToken:
        return None
    return claims.session_id, claims.subject
