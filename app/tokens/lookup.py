"""Lookup: from the string of an access or refresh token to the session it belongs to."""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.errors import InvalidToken
from app.identity.clients import FIRST_PARTY_CLIENT
from app.identity.models import Session
from app.tokens.jwt import Claims
from app.tokens.refresh import ParsedRefreshToken, RefreshTokens


@dataclass(frozen=True, slots=True)
class FoundToken:
    """What one of our tokens says. It may have expired, and its session may have ended."""

    token_type: Literal["bearer", "refresh_token"]
    subject: uuid.UUID
    session_id: uuid.UUID
    client_id: str
    scopes: frozenset[str]
    issued_at: datetime
    expires_at: datetime
    token_id: uuid.UUID | None
    """None: a refresh token has no id of its own."""
    key_id: str | None = None
    """The key that an access token was signed with, as in its claims."""
    audience: str | None = None
    """The resource that an access token is for, as in its claims."""
    used: bool = False
    """Whether this is a refresh token that a later one has replaced."""


async def find_token(
    token: str,
    refresh_tokens: RefreshTokens,
    sessions: async_sessionmaker[AsyncSession],
    *,
    read: Callable[[str], Awaitable[Claims]],
) -> FoundToken | None:
    """Return what the token says; None for a string that is none of ours, whatever the reason.

    `read` returns the claims of an access token, or raises InvalidToken. The database is not asked
    about a refresh token without our seal.
    """
    parsed = refresh_tokens.read(token)
    if parsed is not None:
        return await _find_refresh_token(parsed, refresh_tokens, sessions)
    try:
        claims = await read(token)
    except InvalidToken:
        return None
    return FoundToken(
        "bearer",
        subject=claims.subject,
        session_id=claims.session_id,
        client_id=claims.client_id,
        scopes=claims.scopes,
        issued_at=claims.issued_at,
        expires_at=claims.expires_at,
        token_id=claims.token_id,
        key_id=claims.key_id,
        audience=claims.audience,
    )


async def _find_refresh_token(
    parsed: ParsedRefreshToken,
    refresh_tokens: RefreshTokens,
    sessions: async_sessionmaker[AsyncSession],
) -> FoundToken | None:
    async with sessions() as db:
        row = await db.get(Session, parsed.session_id)
    if row is None or not refresh_tokens.proves(parsed, row):
        return None
    return FoundToken(
        "refresh_token",
        subject=row.user_id,
        session_id=row.id,
        client_id=row.client_id or FIRST_PARTY_CLIENT,
        scopes=frozenset(row.scopes),
        issued_at=row.rotated_at or row.created_at,
        expires_at=row.idle_expires_at,
        token_id=None,
        used=row.generation != parsed.generation,
    )
