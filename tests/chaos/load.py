"""Load by people who each know what they may do, and a checker of every answer they get.

A person does one thing at a time, so what is true of them is known: what was acknowledged holds,
and what was answered by 503 or not at all may hold or not, until something is acknowledged again.
"""

import asyncio
import base64
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx2

from tests.support.factories import Someone, login
from tests.support.processes import PATIENCE

PAUSE = 0.01
"""Seconds between two things that one person does."""
AGAIN = 0.03
"""Seconds after which is tried again what was answered by 503 or not at all."""
KINDS = ("login", "refresh", "read", "write", "grant", "revoke", "sign out", "disable", "enable")
DEAD_KEPT = 200
UPGRADE_OFFERS = 0.1
"""How many of all requests offer another protocol, as `curl --http2` and Java's client do."""
UPGRADE = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"}


@dataclass
class Tally:
    """What was asked and answered so far, and what should not have been."""

    answers: Counter[str] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)
    """By kind: what did what it was to do."""
    revocations: int = 0
    probes: int = 0
    """Requests with what was taken away."""
    slowest: float = 0.0
    """Seconds from a revocation's acknowledgement to the last request sent that was let in."""
    written: int = 0
    """Acknowledged writes that were looked for, and found, in the database."""
    violations: list[str] = field(default_factory=list)

    def violation(self, what: str) -> None:
        """Note what must not be."""
        self.violations.append(what)


@dataclass
class Expected:
    """What the database must hold: all of it was acknowledged."""

    items: set[uuid.UUID] = field(default_factory=set)
    sessions: set[uuid.UUID] = field(default_factory=set)
    ended: set[uuid.UUID] = field(default_factory=set)


@dataclass
class Person:
    """A user, and what is known of them. None: not known."""

    who: Someone
    access: str | None = None
    refresh: str = ""
    readable: bool = False
    """Whether the token in hand bears the scope: one from before a grant does not."""
    enabled: bool | None = True
    granted: bool | None = True
    settled: float = 0.0
    """Since when it is so: another replica may hear of it a little later."""


class Load:
    """People at work on some replicas, each at one of them at a time."""

    def __init__(
        self,
        urls: Sequence[str],
        people: Sequence[Someone],
        *,
        root: str,
        bound: float,
        chance: random.Random,
        pause: float = PAUSE,
    ) -> None:
        self.tally = Tally()
        self._clients = [httpx2.AsyncClient(base_url=url, timeout=15) for url in urls]
        self._people = [Person(someone) for someone in people]
        self._root = root
        self._bound = bound
        self._chance = chance
        self._pause = pause
        self._expected = Expected()
        self._dead: list[tuple[str, float]] = []
        """Tokens of ended sessions, and when their end was acknowledged."""
        self._open = asyncio.Event()
        self._busy = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let everybody work meanwhile."""
        self._open.set()
        tasks = [asyncio.create_task(self._work(person)) for person in self._people]
        tasks.append(asyncio.create_task(self._probe_the_dead()))
        try:
            yield
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for client in self._clients:
                await client.aclose()

    async def served(self, *kinds: str) -> None:
        """Return once each kind of request has been served again, from now on."""
        before = self.tally.served.copy()
        async with asyncio.timeout(PATIENCE):
            while any(self.tally.served[kind] == before[kind] for kind in kinds or KINDS):
                await asyncio.sleep(PAUSE)

    async def verify(self, database: Callable[[], Awaitable[asyncpg.Connection]]) -> None:
        """Look for all that was acknowledged in the database, while nobody works."""
        self._open.clear()
        while self._busy:
            await asyncio.sleep(PAUSE)
        connection = await database()
        try:
            await self._compare(connection)
        finally:
            await connection.close()
            self._expected = Expected()
            self._open.set()

    async def _compare(self, database: asyncpg.Connection) -> None:
        expected = self._expected
        for what, wanted, query in (
            ("items", expected.items, "SELECT id FROM items WHERE id = ANY($1)"),
            ("sessions", expected.sessions, "SELECT id FROM sessions WHERE id = ANY($1)"),
            (
                "ended sessions",
                expected.ended,
                "SELECT id FROM sessions WHERE id = ANY($1) AND ended_at IS NOT NULL",
            ),
        ):
            # Their UUIDs are asyncpg's own, which compare with Python's.
            found = {row["id"] for row in await database.fetch(query, list(wanted))}
            self.tally.written += len(wanted)
            if lost := wanted - found:
                self.tally.violation(f"{len(lost)} acknowledged {what} are not in the database")
        for person in self._people:
            row = await database.fetchrow(
                "SELECT disabled_at IS NULL AS enabled, EXISTS (SELECT FROM grants "
                "WHERE user_id = users.id AND scope = 'read:items') AS granted "
                "FROM users WHERE id = $1",
                person.who.id,
            )
            for name in ("enabled", "granted"):
                known = getattr(person, name)
                self.tally.written += known is not None
                if known is not None and row[name] != known:
                    self.tally.violation(f"{name} was acknowledged {known} and is {row[name]}")

    async def _work(self, person: Person) -> None:
        things = [self._login, self._refresh, self._read, self._read, self._read, self._write]
        things += [self._revoke, self._grant, self._sign_out, self._disable]
        while True:
            await self._open.wait()
            self._busy += 1
            try:
                await self._chance.choice(things)(person)
            finally:
                self._busy -= 1
            await asyncio.sleep(self._pause)

    async def _login(self, person: Person) -> None:
        if person.enabled is None:
            await self._enable(person)
        if person.access is not None or not person.enabled:
            return
        kind, client = "login", self._any()
        answer = await self._noted(kind, lambda: login(client, person.who))
        if self._succeeds(kind, answer, {200}, {400} if self._in_doubt(person) else set()):
            self._adopt(person, answer)

    async def _refresh(self, person: Person) -> None:
        if person.access is None:
            return await self._login(person)
        form = {"grant_type": "refresh_token", "refresh_token": person.refresh}
        answer = await self._ask("refresh", self._any(), "POST", "/token", data=form)
        if self._succeeds("refresh", answer, {200}):
            return self._adopt(person, answer)
        # Used up or not: after the grace, to try again would be reuse.
        person.access = None
        return None

    async def _read(self, person: Person) -> None:
        if person.access is None:
            return await self._login(person)
        doubt, may = self._in_doubt(person), bool(person.granted and person.readable)
        answer = await self._ask("read", self._any(), "GET", "/items", token=person.access)
        self._succeeds(
            "read", answer, {200} if may or doubt else set(), {403} if not may or doubt else set()
        )
        return None

    async def _write(self, person: Person) -> None:
        if person.access is None:
            return await self._login(person)
        what = {"title": person.who.username}
        answer = await self._ask(
            "write", self._any(), "POST", "/items", token=person.access, json=what
        )
        if self._succeeds("write", answer, {201}):
            assert answer is not None
            self._expected.items.add(uuid.UUID(answer.json()["id"]))
        return None

    async def _grant(self, person: Person) -> None:
        if person.granted:
            return
        path = f"/users/{person.who.id}/grants/read:items"
        person.granted = None
        answer = await self._ask("grant", self._any(), "PUT", path, token=self._root)
        if self._succeeds("grant", answer, {204}):
            person.granted, person.settled = True, time.monotonic()

    async def _revoke(self, person: Person) -> None:
        if not person.granted or person.access is None or not person.readable:
            return
        path = f"/users/{person.who.id}/grants/read:items"
        person.granted = None
        answer = await self._ask("revoke", self._any(), "DELETE", path, token=self._root)
        if self._succeeds("revoke", answer, {204}):
            person.granted, person.settled = False, time.monotonic()
            await self._is_refused("/items", person.access, {403}, since=person.settled)

    async def _sign_out(self, person: Person) -> None:
        if person.access is None:
            return
        token, person.access = person.access, None
        client = self._any()
        answer = await self._ask("sign out", client, "DELETE", "/users/me/sessions", token=token)
        if self._succeeds("sign out", answer, {204}):
            await self._bury(token)

    async def _disable(self, person: Person) -> None:
        if person.access is None or not person.enabled:
            return
        token, person.access, person.enabled = person.access, None, None
        if await self._set_enabled(person, "disable", enabled=False):
            await self._bury(token)
        await self._enable(person)

    async def _enable(self, person: Person) -> None:
        person.enabled = None
        await self._set_enabled(person, "enable", enabled=True)

    async def _set_enabled(self, person: Person, kind: str, *, enabled: bool) -> bool:
        path = f"/users/{person.who.id}"
        answer = await self._ask(
            kind, self._any(), "PATCH", path, token=self._root, json={"disabled": not enabled}
        )
        done = self._succeeds(kind, answer, {200})
        if done:
            person.enabled, person.settled = enabled, time.monotonic()
        return done

    async def _bury(self, token: str) -> None:
        since = time.monotonic()
        self._expected.ended.add(_session_of(token))
        await self._is_refused("/users/me", token, {401}, since=since)
        self._dead.append((token, since))
        del self._dead[:-DEAD_KEPT]

    async def _is_refused(self, path: str, token: str, codes: set[int], *, since: float) -> None:
        """See to it that every replica refuses it from `bound` after `since` at the latest."""
        self.tally.revocations += 1
        await asyncio.gather(
            *(self._until_refused(each, path, token, codes, since) for each in self._clients)
        )

    async def _until_refused(
        self, client: httpx2.AsyncClient, path: str, token: str, codes: set[int], since: float
    ) -> None:
        while True:
            status, late = await self._probe(client, path, token, since)
            if status in codes or late:
                return
            await asyncio.sleep(AGAIN if status in {None, 503} else 0)

    async def _probe(
        self, client: httpx2.AsyncClient, path: str, token: str, since: float
    ) -> tuple[int | None, bool]:
        """What it is answered, and whether it is let in although it is too late for that."""
        sent = time.monotonic()
        answer = await self._ask("probe", client, "GET", path, token=token)
        self.tally.probes += 1
        if answer is None:
            return None, False
        after = sent - since
        late = answer.is_success and after > self._bound
        if answer.is_success:
            self.tally.slowest = max(self.tally.slowest, after)
        if late:
            self.tally.violation(f"{path} was let in {after:.3f} s after its revocation")
        return answer.status_code, late

    async def _probe_the_dead(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            if self._dead:
                token, since = self._chance.choice(self._dead)
                await self._probe(self._any(), "/users/me", token, since)

    async def _ask(
        self,
        kind: str,
        client: httpx2.AsyncClient,
        method: str,
        path: str,
        *,
        token: str | None = None,
        **what: Any,
    ) -> httpx2.Response | None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if self._chance.random() < UPGRADE_OFFERS:
            headers |= UPGRADE
        return await self._noted(
            kind, lambda: client.request(method, path, headers=headers, **what)
        )

    async def _noted(
        self, kind: str, ask: Callable[[], Awaitable[httpx2.Response]]
    ) -> httpx2.Response | None:
        """The answer; None when there was none."""
        try:
            answer = await ask()
        except httpx2.TransportError:
            self.tally.answers["no answer"] += 1
            await asyncio.sleep(AGAIN)
            return None
        self.tally.answers[str(answer.status_code)] += 1
        if answer.status_code >= 500 and answer.status_code != 503:
            self.tally.violation(f"{kind}: {answer.status_code} {answer.text[:200]}")
        if answer.status_code == 503 and "retry-after" not in answer.headers:
            self.tally.violation(f"{kind}: 503 without Retry-After: {answer.text[:200]}")
        return answer

    def _succeeds(
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
            self.tally.violation(f"{kind}: {answer.status_code} {answer.text[:200]}")
        return False

    def _in_doubt(self, person: Person) -> bool:
        """Whether a replica may take it for otherwise."""
        recently = time.monotonic() - person.settled <= self._bound
        return person.granted is None or person.enabled is None or recently

    def _adopt(self, person: Person, answer: httpx2.Response | None) -> None:
        assert answer is not None
        pair = answer.json()
        person.access, person.refresh = pair["access_token"], pair["refresh_token"]
        person.readable = "read:items" in pair["scope"]
        self._expected.sessions.add(_session_of(pair["access_token"]))

    def _any(self) -> httpx2.AsyncClient:
        return self._chance.choice(self._clients)


def _session_of(token: str) -> uuid.UUID:
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return uuid.UUID(claims["sid"])
