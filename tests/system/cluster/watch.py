"""What clients see of a fault: seconds without reads and writes, and sessions that end by it."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import httpx2

from tests.support.factories import Someone, login, refresh

EVERY = 0.1
"""Seconds between two requests of one kind to one replica."""
CHAINS = 3
"""Sessions that refresh, by each way."""
CHAIN_PAUSE = 0.3
"""Seconds between two refreshes of a session."""


@dataclass
class Line:
    """The answers to one kind of request at one replica: when sent, when answered, whether good."""

    samples: list[tuple[float, float, bool]] = field(default_factory=list)

    def failing(self, since: float) -> float:
        """Return the seconds after `since` in which requests failed."""
        return sum(end - max(begin, since) for begin, end in self.windows() if end > since)

    def windows(self) -> list[tuple[float, float]]:
        """Return the spans of failed requests, each up to the answer of the next good one."""
        found, begin, end = [], None, 0.0
        for sent, end, good in self.samples:
            if good and begin is not None:
                found.append((begin, end))
                begin = None
            elif not good and begin is None:
                begin = sent
        return found if begin is None else [*found, (begin, end)]


@dataclass
class Way:
    """One way to the database, the replicas that use it, and what they answer."""

    name: str
    urls: Sequence[str]
    reads: list[Line] = field(default_factory=list)
    writes: list[Line] = field(default_factory=list)
    ready: list[Line] = field(default_factory=list)


@dataclass(frozen=True)
class Seen:
    """What one fault cost by one way, in seconds: the worse of its replicas counts."""

    reads: float
    reads_beyond: float
    """Of these, after a leader was there."""
    writes: float
    writes_beyond: float
    falsely_ready: float
    """Seconds in which `/health/ready` said 200 while writes failed."""
    signed_out: int
    """Sessions that ended although nobody ended them."""


class Watch:
    """Clients that read, write and refresh at every replica, each every tenth of a second."""

    def __init__(self, ways: Sequence[Way], someone: Someone) -> None:
        self.ways = ways
        self.answers: Counter[str] = Counter()
        self.violations: list[str] = []
        self._someone = someone
        self._signed_out: Counter[str] = Counter()
        self._written: set[uuid.UUID] = set()
        self._began = time.monotonic()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask all the time meanwhile."""
        clients: dict[str, list[httpx2.AsyncClient]] = {
            way.name: [httpx2.AsyncClient(base_url=url, timeout=15) for url in way.urls]
            for way in self.ways
        }
        tasks = []
        for way in self.ways:
            for client in clients[way.name]:
                tasks += await self._tasks_of(way, client)
            tasks += [
                asyncio.create_task(self._chain(way.name, clients[way.name], number))
                for number in range(CHAINS)
            ]
        try:
            yield
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for client in (client for each in clients.values() for client in each):
                await client.aclose()

    def begin(self) -> None:
        """Forget what was seen before: a fault begins now."""
        self._began = time.monotonic()
        self._signed_out.clear()
        for way in self.ways:
            for line in (*way.reads, *way.writes, *way.ready):
                line.samples.clear()

    def seen(self, leader_at: float) -> dict[str, Seen]:
        """Return what the fault cost, by each way; a leader was there from `leader_at` on."""
        return {way.name: self._seen(way, leader_at) for way in self.ways}

    async def settled(self) -> None:
        """Return once every kind of request is answered well again at every replica."""
        lines = [line for way in self.ways for line in (*way.reads, *way.writes, *way.ready)]
        begun = time.monotonic()
        async with asyncio.timeout(120):
            while not all(
                line.samples and line.samples[-1][2] and line.samples[-1][0] > begun
                for line in lines
            ):
                await asyncio.sleep(EVERY)

    async def verify(self, database: asyncpg.Connection) -> int:
        """Look for every acknowledged item. Return how many were looked for."""
        wanted = list(self._written)
        rows = await database.fetch("SELECT id FROM items WHERE id = ANY($1)", wanted)
        # Their UUIDs are asyncpg's own, which compare with Python's.
        if lost := set(wanted) - {row["id"] for row in rows}:
            self.violations.append(f"{len(lost)} acknowledged items are not in the database")
        self._written.difference_update(wanted)
        return len(wanted)

    def _seen(self, way: Way, leader_at: float) -> Seen:
        def worst(lines: list[Line], since: float) -> float:
            return max(line.failing(since) for line in lines)

        falsely = [
            sum(
                EVERY
                for sent, _, good in ready.samples
                if good and any(begin < sent < end - EVERY for begin, end in writes.windows())
            )
            for ready, writes in zip(way.ready, way.writes, strict=True)
        ]
        return Seen(
            reads=worst(way.reads, self._began),
            reads_beyond=worst(way.reads, leader_at),
            writes=worst(way.writes, self._began),
            writes_beyond=worst(way.writes, leader_at),
            falsely_ready=max(falsely),
            signed_out=self._signed_out[way.name],
        )

    async def _tasks_of(self, way: Way, client: httpx2.AsyncClient) -> list[asyncio.Task[None]]:
        token = (await login(client, self._someone)).json()["access_token"]
        bearer = {"Authorization": f"Bearer {token}"}

        async def write() -> httpx2.Response:
            answer = await client.post("/items", headers=bearer, json={"title": "Lamp"})
            if answer.status_code == 201:
                self._written.add(uuid.UUID(answer.json()["id"]))
            return answer

        asked: list[tuple[list[Line], Callable[[], Awaitable[httpx2.Response]]]] = [
            (way.reads, lambda: client.get("/users/me", headers=bearer)),
            (way.writes, write),
            (way.ready, lambda: client.get("/health/ready")),
        ]
        tasks = []
        for lines, ask in asked:
            lines.append(Line())
            tasks.append(asyncio.create_task(self._ask_on(lines[-1], ask)))
        return tasks

    async def _ask_on(self, line: Line, ask: Callable[[], Awaitable[httpx2.Response]]) -> None:
        while True:
            sent = time.monotonic()
            answer = await self._noted(ask)
            good = answer is not None and answer.is_success
            if answer is not None and not good and answer.status_code != 503:
                self.violations.append(f"{answer.status_code} {answer.text[:200]}")
            line.samples.append((sent, time.monotonic(), good))
            await asyncio.sleep(max(0, sent + EVERY - time.monotonic()))

    async def _chain(self, way: str, clients: Sequence[httpx2.AsyncClient], number: int) -> None:
        """Refresh a session again and again, as an honest client: until there is an answer."""
        token: str | None = None
        failing: float | None = None
        while True:
            number += 1
            client = clients[number % len(clients)]
            tried = token
            answer = await self._noted(
                lambda: refresh(client, tried) if tried else login(client, self._someone)  # noqa: B023
            )
            if answer is None or answer.status_code == 503:
                failing = failing or time.monotonic()
            elif answer.is_success:
                token, failing = answer.json()["refresh_token"], None
            else:
                self._signed_out[way] += 1
                after = time.monotonic() - failing if failing else 0
                self.violations.append(
                    f"{way}: a session ended that nobody ended, {after:.1f} s after its first "
                    f"refresh that failed: {answer.status_code} {answer.text[:200]}"
                )
                token = failing = None
            await asyncio.sleep(CHAIN_PAUSE)

    async def _noted(self, ask: Callable[[], Awaitable[httpx2.Response]]) -> httpx2.Response | None:
        try:
            answer = await ask()
        except httpx2.TransportError:
            self.answers["no answer"] += 1
            return None
        self.answers[str(answer.status_code)] += 1
        if answer.status_code == 503 and "retry-after" not in answer.headers:
            self.violations.append(f"503 without Retry-After: {answer.text[:200]}")
        return answer
