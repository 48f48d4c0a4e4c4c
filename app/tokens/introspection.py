"""Introspection: what a token is worth at this moment (RFC 7662)."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.principals import Principal
from app.errors import InvalidToken
from app.tokens.lookup import FoundToken, find_token
from app.tokens.refresh import RefreshTokens
from app.tokens.verification import AccessTokens


@dataclass(frozen=True, slots=True)
class ActiveToken:
    """A token that would be accepted now, and whom it stands for."""

    token: FoundToken
    principal: Principal


async def introspect_token(
    token: str,
    refresh_tokens: RefreshTokens,
    access_tokens: AccessTokens,
    sessions: async_sessionmaker[AsyncSession],
    *,
    now: datetime,
) -> ActiveToken | None:
    """What the token is worth; None for one that is not good, whatever the reason.

    Raises MaybeBehind for one that is so new that the database may not know its session yet.
    """
    found = await find_token(token, refresh_tokens, access_tokens, sessions, now=now)
    if found is None or found.used or found.expires_at <= now:
        return None
    try:
        principal = await access_tokens.principal_of(
            found.session_id,
            user_id=found.user_id,
            token_scopes=found.scopes,
            issued_at=found.issued_at,
            now=now,
        )
    except InvalidToken:
        return None
    return ActiveToken(found, principal)
