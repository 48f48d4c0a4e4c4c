"""Introspection: what a token is worth at this moment (RFC 7662)."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.principals import Principal
from app.errors import InvalidToken
from app.identity.clients import FIRST_PARTY_CLIENT
from app.identity.models import Session
from app.tokens.issuing import Issuer
from app.tokens.refresh import ParsedRefreshToken
from app.tokens.verification import AccessTokens


@dataclass(frozen=True, slots=True)
class ActiveToken:
    """A token that would be accepted now, and whom it stands for."""

    principal: Principal
    client_id: str
    token_id: uuid.UUID | None
    token_type: str
    issued_at: datetime
    expires_at: datetime


async def introspect_token(
    token: str,
    issuer: Issuer,
    access_tokens: AccessTokens,
    sessions: async_sessionmaker[AsyncSession],
    *,
    now: datetime,
) -> ActiveToken | None:
    """What the token is worth; None for one that is not good, whatever the reason."""
    presented = issuer.refresh_tokens.read(token)
    if presented is not None:
        return await _refresh_token(presented, issuer, access_tokens, sessions, now=now)
    try:
        claims, principal = await access_tokens.verify(token, now=now)
    except InvalidToken:
        return None
    return ActiveToken(
        principal,
        client_id=claims.client_id,
        token_id=claims.token_id,
        token_type="bearer",  # noqa: S106
        issued_at=claims.issued_at,
        expires_at=claims.expires_at,
    )


async def _refresh_token(
    presented: ParsedRefreshToken,
    issuer: Issuer,
    access_tokens: AccessTokens,
    sessions: async_sessionmaker[AsyncSession],
    *,
    now: datetime,
) -> ActiveToken | None:
    async with sessions() as db:
        row = await db.scalar(
            select(Session).where(
                Session.id == presented.session_id, Session.generation == presented.generation
            )
        )
    if row is None or not issuer.refresh_tokens.proves(presented, row):
        return None
    principal = await access_tokens.principals.find(
        row.id, user_id=row.user_id, token_scopes=frozenset(row.scopes), now=now
    )
    if principal is None:
        return None
    return ActiveToken(
        principal,
        client_id=row.client_id or FIRST_PARTY_CLIENT,
        token_id=None,
        token_type="refresh_token",  # noqa: S106
        issued_at=row.rotated_at or row.created_at,
        expires_at=row.idle_expires_at,
    )
