"""Verification: from the string that a request carries to whom it stands for."""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NoReturn

from sqlalchemy import Select, bindparam, exists, or_

from app.access.holders import Principal, select_holder
from app.access.principals import Principals
from app.db.changes import Change, ChangeFeed
from app.db.work import Connect
from app.errors import InvalidToken
from app.identity.missing_sessions import require_known
from app.tokens.jwt import Claims, JwtFormat
from app.tokens.last_uses import LastUses
from app.tokens.lookup import FoundToken
from app.tokens.models import SigningKey
from app.tokens.opaque import is_opaque, read_opaque_token, token_digest
from app.tokens.personal_tokens import is_personal, read_personal_token

END_OF_TIME = datetime.max.replace(tzinfo=UTC)


def select_holder_and_key() -> Select[Any]:
    """Select the holder, if the key with `key_id` is there and not retired."""
    now = bindparam("now", type_=SigningKey.retires_at.type)
    counts = or_(SigningKey.retires_at.is_(None), SigningKey.retires_at > now)
    return select_holder(exists().where(SigningKey.kid == bindparam("key_id"), counts))


# Built once, because each introspection runs it.
_HOLDER_AND_KEY = select_holder_and_key()


@dataclass(slots=True)
class _Verified:
    """A token that was found good, and until when that can't change by itself."""

    claims: Claims
    until: datetime
    principal: Principal | None = None
    """Whom it stood for last."""


class AccessTokens:
    """Reads and verifies access tokens of every format, whichever is issued now.

    The claims of `size` tokens are remembered, at most, so that a signature is checked once. By a
    digest: what is kept in memory can't be presented.
    """

    def __init__(
        self,
        jwt: JwtFormat,
        principals: Principals,
        connect: Connect,
        feed: ChangeFeed,
        *,
        size: int,
    ) -> None:
        self._jwt = jwt
        self._principals = principals
        self._connect = connect
        self._feed = feed
        self._size = size
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._changes = 0
        self.last_uses = LastUses()
        """Of personal access tokens, until they are written down."""
        feed.subscribe(self.on_change)

    def __len__(self) -> int:
        return len(self._verified)

    async def verify(self, token: str, *, now: datetime) -> tuple[Claims, Principal]:
        """What the token says, and whom it stands for at this moment with what they hold now.

        Raises InvalidToken when it has expired, is for another service, or its session has ended;
        MaybeBehind when it is so new that the database which was asked may not know of its session
        yet.
        """
        digest = token_digest(token)
        known = self._recall(digest, now=now)
        # The same token of the same holder: the common case, in which nothing is computed.
        if (
            known
            and known.principal
            and self._principals.remembers(known.principal.holder, now=now)
        ):
            self._note_use(known.principal, now=now)
            return known.claims, known.principal
        known = known or await self._read(digest, token, now=now)
        claims = known.claims
        if claims.expires_at <= now or claims.audience is not None:
            raise InvalidToken
        known.principal = await self.principal_of(claims, now=now)
        self._note_use(known.principal, now=now)
        return claims, known.principal

    def _note_use(self, principal: Principal, *, now: datetime) -> None:
        if principal.holder.is_token:
            self.last_uses.note(principal.session_id, now=now)

    async def principal_of(self, claims: Claims, *, now: datetime) -> Principal:
        """Return whom this token stands for at this moment, with what they hold now.

        Raises InvalidToken when the session has ended, and MaybeBehind as `verify` does.
        """
        principal = await self._principals.find(
            claims.session_id, user_id=claims.subject, token_scopes=claims.scopes, now=now
        )
        return principal or await self._refuse(claims, now=now)

    async def principal_anew(self, token: FoundToken, *, now: datetime) -> Principal:
        """Return whom a token stands for by what the database says after this call.

        Raises InvalidToken when the session has ended or the token's key is retired or gone, and
        MaybeBehind as `verify` does.
        """
        ask = partial(self._principals.ask, token.session_id, user_id=token.subject, now=now)
        if token.key_id is None:
            holder = await ask()
        else:
            holder = await ask(by=_HOLDER_AND_KEY, key_id=token.key_id)
        if holder is None:
            await self._refuse(token, now=now)
        principal = holder.principal(token.scopes)
        # A service that asks about a token has just been shown it.
        self._note_use(principal, now=now)
        return principal

    async def _refuse(self, token: Claims | FoundToken, *, now: datetime) -> NoReturn:
        age, bound = now - token.issued_at, timedelta(seconds=self._feed.bound)
        async with self._connect() as db:
            await require_known(db, token.session_id, age=age, bound=bound)
        raise InvalidToken

    async def read(self, token: str, *, now: datetime) -> Claims:
        """The claims of one of our access tokens, expired or not. Raises InvalidToken."""
        digest = token_digest(token)
        known = self._recall(digest, now=now) or await self._read(digest, token, now=now)
        return known.claims

    def _recall(self, digest: bytes, *, now: datetime) -> _Verified | None:
        known = self._verified.get(digest)
        if known is None or known.until <= now or not self._feed.fresh():
            return None
        self._verified.move_to_end(digest)
        return known

    async def _read(self, digest: bytes, token: str, *, now: datetime) -> _Verified:
        changes = self._changes
        verified = await self._verify(token, now=now)
        # If a change arrived meanwhile, the result is not cached: the token may have been valid
        # only before the change.
        if self._size and changes == self._changes and verified.until > now:
            self._verified[digest] = verified
            if len(self._verified) > self._size:
                self._verified.popitem(last=False)
        return verified

    async def read_anew(self, token: str, *, now: datetime) -> Claims:
        """As `read`, but a random string is looked up whatever is remembered.

        What a JWT says can't change. Whether its key still counts is for `principal_anew`.
        """
        return await self._look_up(token) or await self.read(token, now=now)

    async def _look_up(self, token: str) -> Claims | None:
        """Return the claims of a random string. None: it is a JWT, which says them itself."""
        if is_opaque(token):
            return await read_opaque_token(self._connect, token)
        if is_personal(token):
            return await read_personal_token(self._connect, token)
        return None

    async def _verify(self, token: str, *, now: datetime) -> _Verified:
        if stored := await self._look_up(token):
            return _Verified(stored, stored.expires_at)
        claims, key = await self._jwt.decode(token, now=now)
        return _Verified(claims, min(claims.expires_at, key.retires_at or END_OF_TIME))

    def on_change(self, change: Change) -> None:
        """Forget what may not be good any more: what a token says depends on it and on the keys."""
        match change:
            case Change("user" | "session" | "client" | "scopes"):
                return
            case Change("token", bytes() as digest):
                self._verified.pop(digest, None)
            case _:
                self._verified.clear()
        self._changes += 1
