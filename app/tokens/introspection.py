"""Introspection: what a token is worth at this moment (RFC 7662)."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.holders import Principal
from app.access.holdings import first_end
from app.errors import InvalidToken
from app.tokens.lookup import FoundToken, find_token
from app.tokens.refresh import RefreshTokens
from app.tokens.verification import AccessTokens


@dataclass(frozen=True, slots=True)
class ActiveToken:
    """A token that would be accepted now, and whom it stands for."""

    token: FoundToken
    principal: Principal

    @property
    def expires_at(self) -> datetime:
        """When this ends by itself: the token, its session, or a grant behind its scopes."""
        holder = self.principal.holder
        end = first_end(holder.granted, self.principal.scopes)
        return min(filter(None, (self.token.expires_at, holder.session_ends_at, end)))


async def introspect_token(
    token: str,
    refresh_tokens: RefreshTokens,
    access_tokens: AccessTokens,
    sessions: async_sessionmaker[AsyncSession],
    *,
    now: datetime,
) -> ActiveToken | None:
    """What the token is worth; None for one that is not good, whatever the reason.

    Nothing that is remembered counts: the answer was true at some moment since the call.
    Raises MaybeBehind for one that is so new that the database may not know its session yet.
    """
    read = partial(access_tokens.read_anew, now=now)
    found = await find_token(token, refresh_tokens, sessions, read=read)
    if found is None or found.used or found.expires_at <= now:
        return None
    try:
        principal = await access_tokens.principal_anew(found, now=now)
    except InvalidToken:
        return None
    return ActiveToken(found, principal)
