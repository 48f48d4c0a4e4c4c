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
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import asyncpg
import httpx2

from tests.chaos.places import Place
from tests.chaos.tally import Expected, Tally
from tests.support.factories import Someone, login
from tests.support.processes import PATIENCE

PAUSE = 0.01
"""Seconds between two things that one person does."""
KINDS = (
    *("login", "refresh", "read", "write", "grant", "revoke"),
    *("sign out", "sign out here", "disable", "enable"),
)
THERE = "read at the second service"
DEAD_KEPT = 200


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
        second: str | None = None,
    ) -> None:
        """`second` is the URL of a service that lets in what it knows from the replicas."""
        self.tally = Tally()
        common = (self.tally, bound, chance)
        self._replicas = [Place.replica(url, *common) for url in urls]
        self._second = [Place.second_service(second, *common)] if second else []
        self._places = [*self._replicas, *self._second]
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
            for place in self._places:
                await place.client.aclose()

    async def served(self, *kinds: str) -> None:
        """Return once each kind of request has been served again, from now on."""
        before = self.tally.served.copy()
        kinds = kinds or (*KINDS, *(THERE for _ in self._second))
        async with asyncio.timeout(PATIENCE):
            while any(self.tally.served[kind] == before[kind] for kind in kinds):
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
        await self._expected.compare(database, self.tally)
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
        things += [self._revoke, self._grant, self._sign_out, self._sign_out_here, self._disable]
        things += [partial(self._read, there=each) for each in self._second * 3]
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
        place = self._any()
        answer = await place.noted("login", lambda: login(place.client, person.who))
        if place.succeeds("login", answer, {200}, {400} if self._in_doubt(person) else set()):
            self._adopt(person, answer)

    async def _refresh(self, person: Person) -> None:
        if person.access is None:
            return await self._login(person)
        form = {"grant_type": "refresh_token", "refresh_token": person.refresh}
        place = self._any()
        answer = await place.ask("refresh", "POST", "/token", data=form)
        if place.succeeds("refresh", answer, {200}):
            return self._adopt(person, answer)
        # Used up or not: after the grace, to try again would be reuse.
        person.access = None
        return None

    async def _read(self, person: Person, there: Place | None = None) -> None:
        if person.access is None:
            return await self._login(person)
        place, kind = (there, THERE) if there else (self._any(), "read")
        doubt, may = self._in_doubt(person), bool(person.granted and person.readable)
        answer = await place.ask(kind, "GET", "/items", token=person.access)
        allowed = {403} if not may or doubt else set()
        place.succeeds(kind, answer, {200} if may or doubt else set(), allowed)
        return None

    async def _write(self, person: Person) -> None:
        if person.access is None:
            return await self._login(person)
        what = {"title": person.who.username}
        place = self._any()
        answer = await place.ask("write", "POST", "/items", token=person.access, json=what)
        if place.succeeds("write", answer, {201}):
            assert answer is not None
            self._expected.items.add(uuid.UUID(answer.json()["id"]))
        return None

    async def _grant(self, person: Person) -> None:
        if person.granted:
            return
        person.granted = None
        if await self._administer("grant", "PUT", _grant_of(person), 204):
            person.granted, person.settled = True, time.monotonic()

    async def _revoke(self, person: Person) -> None:
        if not person.granted or person.access is None or not person.readable:
            return
        person.granted = None
        if await self._administer("revoke", "DELETE", _grant_of(person), 204):
            person.granted, person.settled = False, time.monotonic()
            await self._is_refused("/items", person.access, {403}, since=person.settled)

    async def _sign_out(self, person: Person) -> None:
        """End all sessions of the person."""
        if person.access is None:
            return
        token, person.access = person.access, None
        place = self._any()
        answer = await place.ask("sign out", "DELETE", "/users/me/sessions", token=token)
        if place.succeeds("sign out", answer, {204}):
            await self._bury(token)

    async def _sign_out_here(self, person: Person) -> None:
        """End this one session."""
        if person.access is None:
            return
        token, person.access = person.access, None
        place = self._any()
        answer = await place.ask("sign out here", "POST", "/revoke", data={"token": token})
        if place.succeeds("sign out here", answer, {200}):
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
        what = {"disabled": not enabled}
        done = await self._administer(kind, "PATCH", f"/users/{person.who.id}", 200, json=what)
        if done:
            person.enabled, person.settled = enabled, time.monotonic()
        return done

    async def _administer(
        self, kind: str, method: str, path: str, expected: int, **what: object
    ) -> bool:
        """Do something to a person, in the administrator's name; whether it was acknowledged."""
        place = self._any()
        answer = await place.ask(kind, method, path, token=self._root, **what)
        return place.succeeds(kind, answer, {expected})

    async def _bury(self, token: str) -> None:
        since = time.monotonic()
        self._expected.ended.add(_session_of(token))
        await self._is_refused("/users/me", token, {401}, since=since)
        self._dead.append((token, since))
        del self._dead[:-DEAD_KEPT]

    async def _is_refused(self, path: str, token: str, codes: set[int], *, since: float) -> None:
        """See to it that every service refuses it from `bound` after `since` at the latest."""
        self.tally.revocations += 1
        await asyncio.gather(
            *(each.until_refused(path, token, codes, since=since) for each in self._places)
        )

    async def _probe_the_dead(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            if self._dead:
                token, since = self._chance.choice(self._dead)
                place = self._chance.choice(self._places)
                await place.probe("/users/me", token, since=since)

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

    def _any(self) -> Place:
        return self._chance.choice(self._replicas)


def _grant_of(person: Person) -> str:
    return f"/users/{person.who.id}/grants/read:items"


def _session_of(token: str) -> uuid.UUID:
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return uuid.UUID(claims["sid"])
