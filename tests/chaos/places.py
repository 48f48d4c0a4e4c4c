"""The services that the load asks, one Place each, and the check of every answer that they give."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.chaos.tally import Asked, Tally

AGAIN = 0.03
"""Seconds after which is tried again what was answered by 503 or not at all."""
TIMEOUT = 15.0
"""Seconds: a process that stands still is waited for."""
UPGRADE_OFFERS = 0.1
"""How many of all requests offer a replica another protocol, as `curl --http2` does."""
UPGRADE = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"}


@dataclass
class Place:
    """A service that is asked: a replica, or the second service."""

    name: str
    client: httpx2.AsyncClient
    tally: Tally
    asked: Asked
    bound: float
    """Seconds after a revocation's acknowledgement from which it must refuse."""
    chance: random.Random
    upgrade_offers: float = 0.0

    @classmethod
    def replica(cls, url: str, tally: Tally, bound: float, chance: random.Random) -> "Place":
        """Return a replica as a place."""
        client = httpx2.AsyncClient(base_url=url, timeout=TIMEOUT)
        return cls("a replica", client, tally, tally.replicas, bound, chance, UPGRADE_OFFERS)

    @classmethod
    def second_service(cls, url: str, tally: Tally, bound: float, chance: random.Random) -> "Place":
        """Return the second service as a place. The same bound holds there."""
        client = httpx2.AsyncClient(base_url=url, timeout=TIMEOUT)
        return cls("the second service", client, tally, tally.second, bound, chance)

    async def ask(
        self, kind: str, method: str, path: str, *, token: str | None = None, **what: Any
    ) -> httpx2.Response | None:
        """Return the answer; None when there was none."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if self.chance.random() < self.upgrade_offers:
            headers |= UPGRADE
        return await self.noted(
            kind, lambda: self.client.request(method, path, headers=headers, **what)
        )

    async def noted(
        self, kind: str, ask: Callable[[], Awaitable[httpx2.Response]]
    ) -> httpx2.Response | None:
        """Return the answer, which is counted and checked; None when there was none."""
        try:
            answer = await ask()
        except httpx2.TransportError:
            self.asked.answers["no answer"] += 1
            await asyncio.sleep(AGAIN)
            return None
        self.asked.answers[str(answer.status_code)] += 1
        if answer.status_code >= 500 and answer.status_code != 503:
            self.violation(f"{kind}: {answer.status_code} {answer.text[:200]}")
        if answer.status_code == 503:
            self.asked.last_503 = time.monotonic()
            if "retry-after" not in answer.headers:
                self.violation(f"{kind}: 503 without Retry-After: {answer.text[:200]}")
        return answer

    def succeeds(
        self,
        kind: str,
        answer: httpx2.Response | None,
        expected: AbstractSet[int],
        allowed: AbstractSet[int] = frozenset(),
    ) -> bool:
        """Whether it did what it was to do; else it must have been a fault, or be allowed."""
        if answer is None or answer.status_code == 503:
            return False
        if answer.status_code in expected:
            self.tally.served[kind] += 1
            return True
        if answer.status_code not in allowed and answer.status_code < 500:
            self.violation(f"{kind}: {answer.status_code} {answer.text[:200]}")
        return False

    async def until_refused(self, path: str, token: str, codes: set[int], *, since: float) -> None:
        """See to it that the token is refused from `bound` after `since` at the latest."""
        while True:
            status, late = await self.probe(path, token, since=since)
            if status in codes or late:
                return
            await asyncio.sleep(AGAIN if status in {None, 503} else 0)

    async def probe(self, path: str, token: str, *, since: float) -> tuple[int | None, bool]:
        """Return the answer, and whether it lets the token in although it is too late for that."""
        sent = time.monotonic()
        answer = await self.ask("probe", "GET", path, token=token)
        self.asked.probes += 1
        if answer is None:
            return None, False
        after = sent - since
        late = answer.is_success and after > self.bound
        if answer.is_success:
            self.asked.slowest = max(self.asked.slowest, after)
        if late:
            self.violation(f"{path} was let in {after:.3f} s after its revocation")
        return answer.status_code, late

    def violation(self, what: str) -> None:
        """Note what this service should not have done."""
        self.tally.violation(f"{self.name}: {what}")
