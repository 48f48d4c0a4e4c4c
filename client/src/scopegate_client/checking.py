"""Checking: from a token to whom it stands for, mostly by what is known here."""

import asyncio
import hashlib
import logging
import math
import time
from collections import OrderedDict
from dataclasses import dataclass, replace

import httpx2

from scopegate_client.introspection import Answer, introspect
from scopegate_client.knowledge import Knowledge
from scopegate_client.principals import InvalidToken, Principal, Unavailable
from scopegate_client.tokens import TOKEN, Keys, is_opaque, verify

logger = logging.getLogger(__name__)
REMEMBERED = 20_000
"""How many tokens are remembered."""


@dataclass(slots=True)
class _Known:
    """What is known of a token that was presented."""

    keys_fetched: float | None = None
    """When the keys were fetched that verified it. None: it is not verified yet."""
    says: Principal | None = None
    """What its signature proves that it says. None for an opaque token."""
    answer: Answer | None = None
    asking: asyncio.Task[None] | None = None
    ruled: int = -1
    """With which version of what was heard it was found to count by itself."""
    until: float = -math.inf


class Checker:
    """Checks the tokens of one issuer. `http` is the service account's."""

    def __init__(
        self, http: httpx2.AsyncClient, issuer: str, audience: str, knowledge: Knowledge
    ) -> None:
        self._http, self._where = http, {"issuer": issuer, "audience": audience}
        self._knowledge, self._keys = knowledge, Keys(http)
        self._tokens: OrderedDict[bytes, _Known] = OrderedDict()
        self._failure = ""
        self.introspections = 0

    async def check(self, token: str) -> Principal:
        """Return whom the token stands for now. Raises InvalidToken or Unavailable."""
        # By a digest: what is in memory could be dumped.
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        known, at = self._tokens.get(digest), time.monotonic()
        if known and known.says and known.ruled == self._knowledge.version and at < known.until:
            self._tokens.move_to_end(digest)
            return known.says
        known = await self._read(token, digest)
        answer, at = known.answer, time.monotonic()
        token_says = known.says or (answer.principal if answer else None)
        ruling = self._knowledge.rule(token_says, at, keys_fetched=known.keys_fetched)
        if ruling.refused:
            raise InvalidToken
        if answer is None or answer.asked < ruling.since:
            if known.says and ruling.by_itself:
                known.ruled, known.until = self._knowledge.version, ruling.until
                return known.says
            answer = await self._ask(token, known, since=min(ruling.since, at))
        principal = answer.principal
        # Events may have come meanwhile, and what was answered may have ended.
        if principal is None or self._knowledge.rule(principal, time.monotonic()).refused:
            raise InvalidToken
        return principal

    async def _read(self, token: str, digest: bytes) -> _Known:
        """Return what is known of the token, whose signature is good if it has one."""
        if not TOKEN.fullmatch(token):
            raise InvalidToken
        known = self._tokens.setdefault(digest, _Known())
        self._tokens.move_to_end(digest)
        since = self._knowledge.keys_since(time.monotonic())
        if known.keys_fetched is None or known.keys_fetched < since:
            try:
                if is_opaque(token):
                    known.keys_fetched = math.inf
                else:
                    known.says = await verify(token, self._keys, **self._where, since=since)
                    known.keys_fetched = self._keys.fetched
            except (InvalidToken, Unavailable):
                self._tokens.pop(digest, None)
                raise
        if len(self._tokens) > REMEMBERED:
            self._tokens.popitem(last=False)
        return known

    async def _ask(self, token: str, known: _Known, *, since: float) -> Answer:
        """Return an answer that was asked for at `since` or later. One at a time a token."""
        while known.answer is None or known.answer.asked < since:
            if known.asking is None:
                known.asking = asyncio.create_task(self._introspect(token, known))
                # Retrieved, so that asyncio does not log it when each waiting request has gone.
                known.asking.add_done_callback(lambda task: task.cancelled() or task.exception())
            # Shielded: when one waiting request is cancelled, the others go on.
            await asyncio.shield(known.asking)
        return known.answer

    async def _introspect(self, token: str, known: _Known) -> None:
        self.introspections += 1
        failure = ""
        try:
            bound = self._knowledge.freshness.bound
            answer = await introspect(self._http, token, **self._where, bound=bound)
            if known.says and answer.principal:
                # A JWT says the rest itself. What was granted or ends since, it can't say.
                limited = replace(
                    known.says,
                    scopes=known.says.scopes & answer.principal.scopes,
                    expires_at=min(known.says.expires_at, answer.principal.expires_at),
                )
                answer = replace(answer, principal=limited)
            known.answer = answer
        except Unavailable as error:
            failure = str(error)
            raise
        finally:
            known.asking = None
            if bool(failure) != bool(self._failure):
                logger.warning("introspection: %s", failure or "Scopegate answers again")
            self._failure = failure

    def close(self) -> None:
        """Give up the requests under way. What waited for them has ended."""
        for known in self._tokens.values():
            if known.asking is not None:
                known.asking.cancel()
