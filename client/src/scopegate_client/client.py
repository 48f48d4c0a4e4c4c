"""Scopegate as another service uses it."""

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self
from urllib.parse import quote_plus

import httpx2

from scopegate_client.checking import Checker
from scopegate_client.knowledge import Knowledge
from scopegate_client.principals import InvalidToken, Principal
from scopegate_client.stream import Stream

if TYPE_CHECKING:
    from scopegate_client.fastapi import CurrentPrincipal


@dataclass(frozen=True, slots=True)
class State:
    """What goes on in this process. The counts begin with its lifespan."""

    fresh: bool = False
    """Whether tokens are checked here. If not, each is introspected."""
    connected: bool = False
    lag: float | None = None
    """Seconds since the last moment up to which everything was heard."""
    introspections: int = 0
    refused: int = 0
    events: int = 0


class Scopegate:
    """Checks the tokens of one issuer, and hears what is taken away from them.

    What is taken away counts no more after `bound` seconds, or fewer if Scopegate's own bound is
    smaller. With `resource`, the URL of this service, challenges name its metadata (RFC 9728).
    The issuer is used byte for byte. With `url`, all requests go there instead of to the issuer:
    tokens, the stream and introspection must name the issuer all the same.
    """

    stand_in: Principal | None = None
    """Whom each request is from, in tests: see `scopegate_client.testing`."""

    def __init__(
        self,
        issuer: str,
        *,
        client_id: str,
        client_secret: str,
        audience: str | None = None,
        resource: str | None = None,
        url: str | None = None,
        bound: float = 5.0,
    ) -> None:
        self.issuer, self.audience, self.resource = issuer, audience or issuer, resource
        self.url = url or issuer
        # RFC 6749 §2.3.1.
        self._client = quote_plus(client_id), quote_plus(client_secret)
        self._bound = bound
        self._knowledge = Knowledge(issuer, bound=bound)
        self._stream: Stream | None = None
        self._checker: Checker | None = None
        self._refused = 0

    @classmethod
    def from_env(cls, *, resource: str | None = None) -> Self:
        """Build it from SCOPEGATE_ISSUER, _CLIENT_ID, _CLIENT_SECRET; if set, _AUDIENCE, _URL."""
        return cls(
            os.environ["SCOPEGATE_ISSUER"],
            client_id=os.environ["SCOPEGATE_CLIENT_ID"],
            client_secret=os.environ["SCOPEGATE_CLIENT_SECRET"],
            audience=os.environ.get("SCOPEGATE_AUDIENCE"),
            resource=resource,
            url=os.environ.get("SCOPEGATE_URL"),
        )

    @cached_property
    def principal(self) -> "CurrentPrincipal":
        """The dependency for FastAPI: `Security(scopegate.principal, scopes=["read:orders"])`."""
        from scopegate_client.fastapi import CurrentPrincipal

        return CurrentPrincipal(self)

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Follow the stream while the block runs: `FastAPI(lifespan=scopegate.lifespan)`."""
        if "principal" in vars(self):
            self.principal.show_scopes(app)
        if self.stand_in is not None:
            yield
            return
        self._knowledge = knowledge = Knowledge(self.issuer, bound=self._bound)
        # Two pools: many introspections at once must not keep a new stream waiting.
        async with self._connections() as asking, self._connections() as streaming:
            self._checker = Checker(asking, self.issuer, self.audience, knowledge)
            self._stream, self._refused = Stream(streaming, self.issuer, knowledge), 0
            following = asyncio.create_task(self._stream.follow())
            try:
                yield
            finally:
                following.cancel()
                with suppress(asyncio.CancelledError):
                    await following
                self._checker.close()
                self._checker = self._stream = None

    def _connections(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(auth=self._client, base_url=self.url)

    async def check(self, token: str) -> Principal:
        """Return whom an access token stands for now. Raises InvalidToken or Unavailable."""
        if self.stand_in is not None:
            return self.stand_in
        if self._checker is None:
            raise RuntimeError("scopegate.lifespan does not run: FastAPI(lifespan=…)")
        try:
            return await self._checker.check(token)
        except InvalidToken:
            self._refused += 1
            raise

    @property
    def state(self) -> State:
        """What goes on now, for metrics and health checks."""
        if self._checker is None or self._stream is None:
            return State()
        freshness, now = self._knowledge.freshness, time.monotonic()
        return State(
            fresh=freshness.fresh(now),
            connected=self._stream.connected,
            lag=now - freshness.heard_up_to if math.isfinite(freshness.heard_up_to) else None,
            introspections=self._checker.introspections,
            refused=self._refused,
            events=self._knowledge.events,
        )
