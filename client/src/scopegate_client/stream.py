"""The stream: keeps `GET /events` open, and hands what it says to the knowledge."""

import asyncio
import json
import logging
import random
import secrets
import time
from typing import Any, NoReturn

import httpx2

from scopegate_client.freshness import DatabaseClock
from scopegate_client.knowledge import Knowledge

logger = logging.getLogger("scopegate_client")
VERSION = 1
OPENING = 5.0
"""Seconds in which a stream must begin."""
MAX_BACKOFF = 5.0
UPGRADE_WAIT = 60.0
"""Seconds between two looks at a Scopegate that is too new for this package."""


class Lost(Exception):
    """The stream could not be opened, or has ended. Wait so many seconds at least."""

    def __init__(self, reason: str, *, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Stream:
    """The streams of one process, one after the other. `http` is the service account's."""

    def __init__(self, http: httpx2.AsyncClient, issuer: str, knowledge: Knowledge) -> None:
        self._http, self._issuer, self._knowledge = http, issuer, knowledge
        self._token, self._renew_at = "", 0.0
        self._current: asyncio.Task[Lost] | None = None
        self._was_fresh: bool | None = None

    @property
    def connected(self) -> bool:
        """Whether a stream is open."""
        return self._current is not None and not self._current.done()

    async def follow(self) -> NoReturn:
        """Keep a stream open. One that drains, or whose token will expire, is left for the next."""
        failures, new_future = 0, asyncio.get_running_loop().create_future
        async with asyncio.TaskGroup() as streams:
            while True:
                opened, leave = new_future(), new_future()
                proven = self._knowledge.freshness.heard_up_to
                stream = streams.create_task(self._follow_one(opened, leave))
                await asyncio.wait({stream, opened}, return_when=asyncio.FIRST_COMPLETED)
                if opened.done():
                    if self._current is not None:
                        self._current.cancel()
                    self._current = stream
                    renewal = max(1.0, self._renew_at - time.monotonic())
                    ends = {stream, leave}
                    await asyncio.wait(ends, timeout=renewal, return_when=asyncio.FIRST_COMPLETED)
                if self._knowledge.freshness.heard_up_to > proven:
                    failures = 0
                if stream.done():
                    lost, failures = stream.result(), failures + 1
                    self._note(str(lost))
                    await asyncio.sleep(pause(failures, at_least=lost.wait))

    async def _follow_one(self, opened: asyncio.Future[None], leave: asyncio.Future[None]) -> Lost:
        """Follow one stream to its end, and return why it ended."""
        try:
            async with asyncio.timeout(OPENING) as deadline:
                nonce, url = secrets.token_urlsafe(16), "/events"
                headers = await self._authorization() | {"Scopegate-Nonce": nonce}
                if self._knowledge.through is not None:
                    headers["Scopegate-Through"] = str(self._knowledge.through)
                sent = time.monotonic()
                async with self._http.sse(url, headers=headers, auth=None, timeout=None) as source:
                    self._check(source.response)
                    clock: DatabaseClock | None = None
                    async for frame in source:
                        received, said = time.monotonic(), _object(frame.data)
                        if clock is None:
                            clock, begun = self._hello(frame.event, said, nonce, sent), received
                            self._knowledge.hello(said, clock, received=received)
                            opened.set_result(None)
                        elif (frame.event, said.get("reason")) == ("bye", "draining"):
                            leave.cancel()  # What waits for it goes on. Again is the same.
                        else:
                            self._hear(frame.event, said, clock, received)
                        # Without a beat that proves something in time, another stream is tried.
                        freshness = self._knowledge.freshness
                        ends_at = max(freshness.heard_up_to, begun) + freshness.bound
                        deadline.reschedule(asyncio.get_running_loop().time() + ends_at - received)
            return Lost("the connection was closed")
        except Lost as lost:
            return lost
        except TimeoutError:
            return Lost("no beat came in time")
        # Whatever it is, another stream is tried: until then each token is introspected.
        except Exception as error:  # noqa: BLE001
            return Lost(str(error) or type(error).__name__)

    def _hello(self, event: str, said: dict[str, Any], nonce: str, sent: float) -> DatabaseClock:
        """Return the clock that the first frame shows. Raises Lost where it must not be trusted."""
        if event != "hello" or said["iss"] != self._issuer:
            raise Lost(f"the stream is not that of {self._issuer}")
        if said["v"] > VERSION:
            reason = "Scopegate is too new for this scopegate-client: each token is introspected"
            raise Lost(reason, wait=UPGRADE_WAIT)
        if said["nonce"] != nonce:
            raise Lost("the stream answers another request: a proxy may cache it")
        if any(type(said[name]) is not int for name in ("now", "complete_since", "bound")):
            raise Lost("the stream does not say its times")
        return DatabaseClock(sent, said["now"])

    def _hear(
        self, event: str, said: dict[str, Any], clock: DatabaseClock, received: float
    ) -> None:
        if event == "set":
            self._knowledge.event(said, received=received)
        elif event == "beat":
            self._knowledge.beat(int(said["through"]), clock, received=received)
            self._note("")
        elif event == "everything":
            self._knowledge.everything(received)
        elif event in {"bye", "hello"}:
            reason = said.get("reason", event)
            if reason in {"expired", "revoked"}:
                self._renew_at = 0.0
            raise Lost(f"Scopegate ended the stream: {reason}")

    def _check(self, response: httpx2.Response) -> None:
        if response.status_code == 401:
            self._renew_at = 0.0
        if response.status_code != 200:
            wait = response.headers.get("Retry-After", "")
            seconds = min(float(wait), UPGRADE_WAIT) if wait.isdigit() else 0.0
            raise Lost(f"GET /events answered {response.status_code}", wait=seconds)

    async def _authorization(self) -> dict[str, str]:
        """Return the header with this service's own token, which is renewed before it expires."""
        asked = time.monotonic()
        if asked >= self._renew_at:
            form = {"grant_type": "client_credentials", "scope": "read:events"}
            answer = await self._http.post("/token", data=form)
            if answer.status_code in {400, 401}:
                raise Lost("no token: does the service account exist, and hold read:events?")
            said = answer.raise_for_status().json()
            self._token, self._renew_at = said["access_token"], asked + 0.8 * said["expires_in"]
        return {"Authorization": f"Bearer {self._token}"}

    def _note(self, reason: str) -> None:
        """Log whether the stream is fresh, if that has changed."""
        fresh = self._knowledge.freshness.fresh(time.monotonic())
        if fresh and not self._was_fresh:
            logger.info("fresh: tokens are checked here, without a request for each")
        elif not fresh and self._was_fresh is not False:
            logger.warning("not fresh: each token is introspected: %s", reason)
        self._was_fresh = fresh


def pause(failures: int, *, at_least: float) -> float:
    """Return the seconds to wait after so many failures in a row.

    Jittered: services that lost one replica must not all come back together.
    """
    backoff = min(0.05 * 2.0 ** min(failures, 10), MAX_BACKOFF)
    return max(at_least, backoff) * random.uniform(1, 1.5)  # noqa: S311


def _object(data: str) -> dict[str, Any]:
    """Return the JSON object of a frame; an empty one, which misses all, if it is none."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
