"""Verification: from the string that a request carries to whom it stands for."""

import uuid
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.principals import Principal, Principals
from app.db.changes import Change, ChangeFeed
from app.errors import InvalidToken
from app.identity.missing_sessions import require_known
from app.tokens.jwt import Claims, JwtFormat
from app.tokens.opaque import is_opaque, read_opaque_token, token_digest

END_OF_TIME = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token that was found good, and until when that can't change by itself."""

    claims: Claims
    until: datetime


class AccessTokens:
    """Reads and verifies access tokens, of either format, whichever is issued now.

    The claims of `size` tokens are remembered, at most, so that a signature is checked once. By a
    digest: what is kept in memory can't be presented.
    """

    def __init__(
        self,
        jwt: JwtFormat,
        principals: Principals,
        sessions: async_sessionmaker[AsyncSession],
        feed: ChangeFeed,
        *,
        size: int,
    ) -> None:
        self._jwt = jwt
        self._principals = principals
        self._sessions = sessions
        self._feed = feed
        self._size = size
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._changes = 0
        feed.subscribe(self.on_change)

    def __len__(self) -> int:
        return len(self._verified)

    async def verify(self, token: str, *, now: datetime) -> tuple[Claims, Principal]:
        """What the token says, and whom it stands for at this moment with what they hold now.

        Raises InvalidToken when it has expired, or its session has ended; MaybeBehind when
        it is so new that the database which was asked may not know of its session yet.
        """
        claims = await self.read(token, now=now)
        if claims.expires_at <= now:
            raise InvalidToken
        principal = await self.principal_of(
            claims.session_id,
            user_id=claims.subject,
            token_scopes=claims.scopes,
            issued_at=claims.issued_at,
            now=now,
        )
        return claims, principal

    async def principal_of(
        self,
        session_id: uuid.UUID,
        *,
        user_id: uuid.UUID,
        token_scopes: frozenset[str],
        issued_at: datetime,
        now: datetime,
    ) -> Principal:
        """Return whom a token of this session stands for at this moment, with what they hold now.

        Raises InvalidToken when the session has ended, and MaybeBehind as `verify` does.
        """
        principal = await self._principals.find(
            session_id, user_id=user_id, token_scopes=token_scopes, now=now
        )
        if principal is None:
            bound = timedelta(seconds=self._feed.bound)
            async with self._sessions() as db:
                await require_known(db, session_id, age=now - issued_at, bound=bound)
            raise InvalidToken
        return principal

    async def read(self, token: str, *, now: datetime) -> Claims:
        """The claims of one of our access tokens, expired or not. Raises InvalidToken."""
        digest = token_digest(token)
        known = self._verified.get(digest)
        if known is not None and known.until > now and self._feed.fresh():
            self._verified.move_to_end(digest)
            return known.claims
        changes = self._changes
        verified = await self._verify(token, now=now)
        # If a change arrived meanwhile, the result is not cached: the token may have been valid
        # only before the change.
        if self._size and changes == self._changes and verified.until > now:
            self._verified[digest] = verified
            if len(self._verified) > self._size:
                self._verified.popitem(last=False)
        return verified.claims

    async def _verify(self, token: str, *, now: datetime) -> _Verified:
        if is_opaque(token):
            claims = await read_opaque_token(self._sessions, token)
            return _Verified(claims, claims.expires_at)
        claims, key = await self._jwt.decode(token, now=now)
        return _Verified(claims, min(claims.expires_at, key.retires_at or END_OF_TIME))

    def on_change(self, change: Change) -> None:
        """Forget what may not be good any more: what a token says depends on it and on the keys."""
        match change:
            case Change("user" | "session" | "scopes"):
                return
            case Change("token", bytes() as digest):
                self._verified.pop(digest, None)
            case _:
                self._verified.clear()
        self._changes += 1
