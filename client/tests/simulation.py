"""Scopegate, the network and time, simulated: the package's own code runs on a virtual clock.

The database's history is true by definition. What the client hears of it is delayed, held back,
repeated, cut off and dropped as the drawn randomness says, within the contract.
"""

import asyncio
import itertools
import json
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import parse_qs

import httpx2
import jwt

from client.tests.stand_in import CAEP, OWN, RISC, Key

ISSUER = "https://auth.example"
BOUND = 5.0
OFFSET = 1_800_000_000
"""The database's second at the virtual clock's 0."""
KEY = Key()


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        selector: Any = self._selector  # type: ignore[attr-defined]
        really_select = selector.select

        def select(timeout: float | None) -> Any:
            assert timeout is not None, "all wait, and no timer is set"
            self.now += max(0.0, timeout)
            return really_select(0)

        selector.select = select

    def time(self) -> float:
        """Return the virtual moment."""
        return self.now

    # What asyncio and `time` call it.
    monotonic = time

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run it to its end, and close the loop."""
        try:
            self.run_until_complete(main)
        finally:
            self.run_until_complete(self._end_tasks())
            self.run_until_complete(self.shutdown_asyncgens())
            self.close()

    async def _end_tasks(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@dataclass(frozen=True)
class Change:
    """Something that is committed at a moment: it ends, or gives, something to some tokens."""

    at: float
    kind: str
    user: str
    session: str

    def event(self, heard: float) -> dict[str, Any]:
        """Return the Security Event Token that tells of it."""
        user = {"format": "iss_sub", "iss": ISSUER, "sub": self.user}
        session = {"format": "opaque", "id": self.session}
        kind, about = {
            "end": (
                f"{CAEP}session-revoked",
                {"format": "complex", "user": user, "session": session},
            ),
            "end all": (f"{CAEP}session-revoked", user),
            "disable": (f"{RISC}account-disabled", user),
            "enable": (f"{RISC}account-enabled", user),
            "revoke": (f"{OWN}grants-changed", user),
            "grant": (f"{OWN}grants-changed", user),
            "remove": (f"{OWN}scopes-changed", {"format": "opaque", "id": ISSUER}),
            "restore": (f"{OWN}scopes-changed", {"format": "opaque", "id": ISSUER}),
            "later kind": ("urn:example:a-later-kind", user),
            "unknown": ("urn:example:unknown", {"format": "email", "email": "alice@example"}),
        }[self.kind]
        second = OFFSET + math.floor(heard)
        return {
            "iss": ISSUER,
            "sub_id": about,
            "events": {kind: {"event_timestamp": second}},
            "jti": "event",
        }


@dataclass(eq=False)
class Issued:
    """A token. `text` is what is presented."""

    text: str
    user: str
    session: str
    at: float
    claims: dict[str, Any]


class Database:
    """The true history."""

    def __init__(self, changes: list[Change]) -> None:
        self.changes = sorted(changes, key=lambda change: change.at)
        self.issued: dict[str, Issued] = {}

    def issue(self, user: str, session: str, at: float, lives: int, *, opaque: bool) -> Issued:
        """Issue a token at a moment, for a session of a user."""
        second = OFFSET + math.floor(at)
        number = len(self.issued)
        claims = {
            "iss": ISSUER,
            "aud": ISSUER,
            "sub": user,
            "sid": session,
            "client_id": "scopegate",
            "jti": f"token-{number}",
            "iat": second,
            "exp": second + lives,
            "scope": "read:orders",
        }
        text = f"sgo_{number}"
        if not opaque:
            headers = {"kid": KEY.kid, "typ": "at+jwt"}
            text = jwt.encode(claims, KEY.private, algorithm="ES256", headers=headers)
        self.issued[text] = token = Issued(text, user, session, at, claims)
        return token

    def may_issue(self, user: str, session: str, at: float) -> bool:
        """Return whether a sign-in can give a token then: nothing that it needs is away."""
        probe = Issued("", user, session, at, {"exp": math.inf})
        return self.active(probe, at) and self.granted(probe, at)

    def active(self, token: Issued, at: float) -> bool:
        """Return whether the token's session lives at a moment, and the token has not expired."""
        if at < token.at or OFFSET + at >= token.claims["exp"]:
            return False
        disabled = False
        for change in self.changes:
            if change.at > at:
                break
            if change.kind == "end" and change.session == token.session:
                return False
            if change.user != token.user:
                continue
            if change.kind in {"end all", "disable"} and change.at >= token.at:
                return False
            if change.kind in {"disable", "enable"}:
                disabled = change.kind == "disable"
        return not disabled

    def granted(self, token: Issued, at: float) -> bool:
        """Return whether the token's scope is registered, and granted to its user."""
        granted = registered = True
        for change in self.changes:
            if change.at > at:
                break
            if change.kind in {"revoke", "grant"} and change.user == token.user:
                granted = change.kind == "grant"
            if change.kind in {"remove", "restore"}:
                registered = change.kind == "restore"
        return granted and registered

    def permitted_within(self, token: Issued, begin: float, end: float) -> bool:
        """Return whether the token was good for its scope at some moment of this time."""
        moments = [begin, end, *(each.at for each in self.changes if begin <= each.at <= end)]
        # Just before a change, too: what it takes away was there until then.
        moments += [each - 1e-9 for each in moments[2:]]
        if begin <= token.at <= end:
            moments.append(token.at)
        return any(self.active(token, each) and self.granted(token, each) for each in moments)


@dataclass
class Replica:
    """One that hears of each change after a while, in the order of the commits."""

    database: Database
    heard_at: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, database: Database, random: Random) -> "Replica":
        """Draw one."""
        replica, last = cls(database), 0.0
        for change in database.changes:
            last = max(last, change.at + random.choice([0.001, 0.001, 0.02, 0.3, 1.5]))
            replica.heard_at.append(last)
        return replica

    def through(self, at: float) -> float:
        """Return up to when it has heard of all changes."""
        unheard = [
            change.at
            for change, heard in zip(self.database.changes, self.heard_at, strict=True)
            if heard > at
        ]
        return min(at, *unheard) if unheard else at


class Network(httpx2.AsyncBaseTransport):
    """All that is between the client and Scopegate."""

    def __init__(
        self, database: Database, random: Random, loop: VirtualLoop, *, trouble: float
    ) -> None:
        self.database, self.random, self.loop = database, random, loop
        self._trouble = trouble
        self._recorded: list[list[bytes]] = []
        """What the streams so far have sent."""
        self.replicas = [Replica.of(database, random) for _ in range(2)]
        self.streams = 0
        self._outage: tuple[float, float] = (13.0, 13.0 + self.draw(0.0, 0.0, 9.0, 20.0))
        """While no stream opens, and none goes on."""

    def _without_streams(self) -> bool:
        begin, end = self._outage
        return begin <= self.loop.time() < end

    def draw(self, *choices: Any) -> Any:
        """Return one of them: the first, unless there is trouble."""
        return self.random.choice(choices) if self.random.random() < self._trouble else choices[0]

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Carry a request, or don't."""
        path = request.url.path
        if path == "/.well-known/jwks.json":
            return httpx2.Response(200, json={"keys": [KEY.public_jwk()]})
        if path == "/token":
            lives = self.draw(900, 20)
            return httpx2.Response(200, json={"access_token": "own", "expires_in": lives})
        await asyncio.sleep(self.draw(0.0, 0.002, 1.9, 4.4))
        if self.draw(*range(8)) == 7:
            raise httpx2.ConnectError("the network is gone")
        if path == "/introspect":
            answer = self.introspect(parse_qs(request.content.decode())["token"][0])
            await asyncio.sleep(self.draw(0.0, 0.002, 1.9, 4.4))
            return httpx2.Response(200, json=answer)
        if self._without_streams():
            raise httpx2.ConnectError("no stream gets through")
        return self.stream(request)

    def introspect(self, text: str) -> dict[str, Any]:
        """Answer from the database, at this moment."""
        token, now = self.database.issued[text], self.loop.time()
        if not self.database.active(token, now):
            return {"active": False}
        scope = "read:orders" if self.database.granted(token, now) else ""
        return {"active": True, "token_type": "bearer", **token.claims, "scope": scope}

    def stream(self, request: httpx2.Request) -> httpx2.Response:
        """Answer with a stream, which begins at this moment."""
        self.streams += 1
        headers, now = request.headers, self.loop.time()
        replica = self.draw(*self.replicas)
        through = int(headers.get("Scopegate-Through", -1))
        resumed = through >= 0 and self.draw(True, False)
        since = through if resumed else milliseconds(now)
        hello = {
            "v": 1,
            "iss": ISSUER,
            "nonce": headers["Scopegate-Nonce"],
            "now": milliseconds(now),
            "complete_since": since,
            "resumed": resumed,
            "beat": 1000,
            "bound": int(BOUND * 1000),
        }
        head = {"Content-Type": "text/event-stream"}
        if self._recorded and self.draw(False, False, False, True):
            body = Chunks(self.replayed(self.draw(*self._recorded)))
        else:
            body = Chunks(self.on_the_way(self.frames(replica, hello, began=now)))
        return httpx2.Response(200, headers=head, stream=body)

    async def replayed(self, recorded: list[bytes]) -> AsyncIterator[bytes]:
        """Yield what another stream has sent: a proxy takes this request for the same."""
        for frame in list(recorded):
            yield frame
        await asyncio.sleep(9.0)

    async def frames(
        self, replica: Replica, hello: dict[str, Any], *, began: float
    ) -> AsyncIterator[tuple[str, Any]]:
        """Yield what a replica sends, when it sends it: all that the contract wants, in order."""
        yield "hello", hello
        rest = list(zip(self.database.changes, replica.heard_at, strict=True))
        # What a client has not heard that resumes; or what comes after the stream has begun.
        rest = [
            (change, heard)
            for change, heard in rest
            if milliseconds(change.at) >= hello["complete_since"] or heard > began
        ]
        beats, ends = itertools.count(1), self.draw(1e9, 1e9, 1e9, began + 7.3)
        overflows, leaves = began + self.draw(1e9, 1.6), self.draw(1e9, 1e9, began + 6.2)
        next_beat = began + next(beats)
        while True:
            due = min([next_beat, overflows, leaves, ends, *(heard for _, heard in rest[:1])])
            await asyncio.sleep(max(0.0, due - self.loop.time()))
            if due == ends:
                yield "bye", {"reason": self.draw("slow", "lost", "expired", "revoked")}
                return
            if due == leaves:
                leaves = 1e9
                yield "bye", {"reason": "draining"}
            elif due == overflows:
                overflows = self.loop.time() + 5.0
                # What is heard meanwhile is dropped.
                await asyncio.sleep(self.draw(0.0, 2.0, 4.0))
                rest = [(change, heard) for change, heard in rest if heard > self.loop.time()]
                yield "everything", {}
            elif due == next_beat:
                next_beat = max(began + next(beats), self.loop.time())
                waiting = [change.at for change, heard in rest if heard <= self.loop.time()]
                through = min(replica.through(self.loop.time()), *waiting, math.inf)
                yield "beat", {"through": milliseconds(through)}
            else:
                change, heard = rest.pop(0)
                yield "set", change.event(heard)

    async def on_the_way(self, frames: AsyncIterator[tuple[str, Any]]) -> AsyncIterator[bytes]:
        """Yield the frames as they arrive: later, in one piece, again, or never."""
        sent: list[bytes] = []
        self._recorded.append(sent)
        arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
        began = self.loop.time()
        cut = began + self.draw(1e9, 3.7, 9.1)
        deaf = began + self.draw(1e9, 1e9, 1e9, 2.9)
        # A proxy holds all back: always for as long, or what comes in some seconds until their end.
        lag = self.draw(0.0, 0.0, 0.0, 0.3, 2.0, 4.0, 7.0)
        stalls_at, stalled_until = began + 4.4, began + 4.4 + self.draw(0.0, 0.0, 3.0, 8.0)

        async def carry() -> None:
            comes_at = 0.0
            async for event, said in frames:
                frame = f"event: {event}\ndata: {json.dumps(said)}\n\n".encode()
                arrives_at = self.loop.time() + lag
                if stalls_at <= arrives_at < stalled_until:
                    arrives_at = stalled_until
                # Timers of the same moment would fire in any order.
                comes_at = max(comes_at + 1e-6, arrives_at)
                sent.append(frame)
                # Carried in order, while later frames are sent.
                self.loop.call_at(comes_at, arrived.put_nowait, frame)
                if event in {"beat", "set"} and self.draw(False, False, True):
                    again = self.draw(*sent[1:])
                    self.loop.call_at(comes_at + self.draw(0.0, 2.5), arrived.put_nowait, again)
            self.loop.call_at(comes_at + 1e-6, arrived.put_nowait, None)

        carrying = asyncio.create_task(carry())
        cutting = self.loop.call_at(min(cut, 1e6), arrived.put_nowait, None)
        try:
            while (frame := await arrived.get()) is not None:
                if self._without_streams():
                    return
                if self.loop.time() < deaf:
                    yield frame
        finally:
            carrying.cancel()
            cutting.cancel()


class Chunks(httpx2.AsyncByteStream):
    """A body that arrives piece by piece."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._pieces:
            yield piece

    async def aclose(self) -> None:
        """Hang up."""
        close: Callable[[], Coroutine[Any, Any, None]] = self._pieces.aclose  # type: ignore[attr-defined]
        await close()


def milliseconds(at: float) -> int:
    """Return the time of the database's clock at a virtual moment."""
    return math.floor((OFFSET + at) * 1000)
