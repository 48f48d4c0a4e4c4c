"""Revocation: how long a token is still let in once the call that revokes it has answered.

Asked one request after another on two replicas at once: the one that took the call and another.
The shortest time that can be seen is that of one request.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import jwt

from bench.errors import BenchmarkFailed
from bench.progress import say
from bench.wire import PATIENCE, Connection, request

BOUND = 5.0  # seconds: whoever is let in for longer was not revoked
GIVE_UP = 10  # tries that missed, after which there is no need to go on
SAY_EVERY = 100  # tries
REFUSED = {401, 403}


class NeverLetIn(BenchmarkFailed):
    """A fresh token was refused: there is nothing to revoke."""


@dataclass(frozen=True)
class Way:
    """A way to revoke: how a good token is got, and how it is made a bad one."""

    name: str
    issue: Callable[[], Awaitable[str]]
    revoke: Callable[[str], Awaitable[object]]
    path: str = "/users/me"
    tries: int = 1
    bound: float = BOUND


@dataclass
class Refusals:
    """What one replica did in all tries."""

    seconds: list[float] = field(default_factory=list)
    """Until a token was refused because it had been revoked."""
    expired: list[float] = field(default_factory=list)
    """Until a token was refused, but not before it would have expired anyway."""
    missed: int = 0
    """Tokens that were not refused within the bound."""

    @property
    def tries(self) -> int:
        """How many there were."""
        return len(self.seconds) + len(self.expired) + self.missed


@dataclass(frozen=True)
class Revocation:
    """What came of a way's tries."""

    way: Way
    same: Refusals
    other: Refusals


async def measure(way: Way, ports: Sequence[int]) -> list[Refusals]:
    """Try it; return what the server of each port did."""
    replicas = [await Connection.open(port) for port in ports]
    found = [Refusals() for _ in replicas]
    for number in range(1, way.tries + 1):
        async with asyncio.timeout(way.bound + PATIENCE):
            await _try(way, replicas, found)
        if number % SAY_EVERY == 0 or number == way.tries:
            say(f"revocation: {way.name}: {number:,} of {way.tries:,}")
        if max(refusals.missed for refusals in found) >= GIVE_UP:
            say(f"revocation: {way.name}: given up after {number:,}, too many were missed")
            break
    for replica in replicas:
        replica.close()
    return found


async def _try(way: Way, replicas: Sequence[Connection], found: Sequence[Refusals]) -> None:
    token = await way.issue()
    raw = request(way.path, token=token)
    # Both have seen the token before: what they remember is what must be forgotten.
    for replica in replicas:
        await _until_let_in(replica, raw, way)
    await way.revoke(token)
    revoked = time.perf_counter()
    polls = [_until_refused(replica, raw, revoked, way.bound) for replica in replicas]
    for refusals, seconds in zip(found, await asyncio.gather(*polls), strict=True):
        if seconds is None:
            refusals.missed += 1
        elif _expired(token):
            refusals.expired.append(seconds)
        else:
            refusals.seconds.append(seconds)


async def _until_let_in(replica: Connection, raw: bytes, way: Way) -> None:
    deadline = time.perf_counter() + BOUND
    while (await replica.ask(raw)).status != 200:
        if time.perf_counter() > deadline:
            raise NeverLetIn(f"{way.name}: a fresh token is refused for {BOUND} seconds")


async def _until_refused(
    replica: Connection, raw: bytes, revoked: float, bound: float
) -> float | None:
    passed = 0.0
    while passed < bound:
        answer = await replica.ask(raw)
        passed = time.perf_counter() - revoked
        if answer.status in REFUSED:
            return passed
    return None


def _expired(token: str) -> bool:
    """Whether it is a JWT, and its time is over."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False, "verify_exp": False})
    except jwt.InvalidTokenError:
        return False
    return time.time() >= float(claims["exp"])
