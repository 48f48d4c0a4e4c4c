"""Guessing: whether the time tells which names exist, and whether a storm keeps the owner out.

The server trusts this machine as a proxy, so each request can come from an address of its own.
"""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.contestants import scopegate_behind_proxy
from bench.effort import Effort
from bench.errors import BenchmarkFailed
from bench.fill import Population
from bench.load import CONNECTIONS
from bench.peers.account import PASSWORD, USERNAME
from bench.postgres import Postgres
from bench.progress import say
from bench.servers import serving
from bench.wire import Answer, Connection, request

HOME = "192.0.2.1"
GUESSERS = 100  # addresses
SAY_EVERY = 2000  # guesses
UNKNOWN, WRONG = "an unknown name", "a wrong password"


class NotRefused(BenchmarkFailed):
    """A wrong login was answered otherwise than as such."""


@dataclass(frozen=True)
class Names:
    """Seconds that refusing a login took."""

    unknown: list[float] = field(default_factory=list)
    wrong: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The median for unknown names over that for wrong passwords."""
        return statistics.median(self.unknown) / statistics.median(self.wrong)


@dataclass(frozen=True)
class Guessed:
    """What was answered to those who guess at one account, and to its owner meanwhile."""

    guesses: Counter[int] = field(default_factory=Counter)
    owner: Counter[int] = field(default_factory=Counter)
    owner_seconds: list[float] = field(default_factory=list)


async def guess(
    postgres: Postgres, population: Population, effort: Effort
) -> tuple[Names, Guessed]:
    """Measure both, on the database of the contest, which is over."""
    contestant = scopegate_behind_proxy(postgres.url_of("scopegate"))
    async with serving(contestant.program) as server:
        names = await _compare_names(server.port, population, effort.names)
        return names, await _storm(server.port, effort.guesses)


async def _compare_names(port: int, population: Population, tries: int) -> Names:
    """Alternate, each try at another name from another address: no limit is ever reached."""
    found = Names()
    connection = await Connection.open(port)
    for number, address in zip(range(tries // 2), _addresses(), strict=False):
        wrong = _login(population.username(number + 1), "wrong", address)
        unknown = _login(f"nobody-{number + 1}", "wrong", address)
        asked = [(wrong, found.wrong), (unknown, found.unknown)]
        # There and back: neither is always the first.
        for raw, seconds in asked if number % 2 else asked[::-1]:
            started = time.perf_counter()
            answer = await connection.ask(raw)
            seconds.append(time.perf_counter() - started)
            _expect(answer, {400})
    connection.close()
    say(f"guessing: {tries:,} names")
    return found


async def _storm(port: int, guesses: int) -> Guessed:
    found = Guessed()
    owner = await Connection.open(port)
    home = _login(USERNAME, PASSWORD, HOME)
    _expect(await owner.ask(home), {200})
    addresses = [address for address, _ in zip(_addresses(), range(GUESSERS), strict=False)]
    left = iter(range(guesses))

    async def keep_guessing() -> None:
        connection = await Connection.open(port)
        for number in left:
            address = addresses[number % GUESSERS]
            answer = await connection.ask(_login(USERNAME, f"guess {number}", address))
            _expect(answer, {400, 429})
            found.guesses[answer.status] += 1
            if number % SAY_EVERY == 0:
                say(f"guessing: guess {number:,} of {guesses:,}")
        connection.close()

    async with asyncio.TaskGroup() as group:
        guessers = [group.create_task(keep_guessing()) for _ in range(CONNECTIONS)]
        while not all(task.done() for task in guessers):
            started = time.perf_counter()
            answer = await owner.ask(home)
            found.owner_seconds.append(time.perf_counter() - started)
            found.owner[answer.status] += 1
    owner.close()
    return found


def _login(username: str, password: str, address: str) -> bytes:
    form = {"grant_type": "password", "username": username, "password": password}
    return request("/token", method="POST", headers={"X-Forwarded-For": address}, form=form)


def _addresses() -> Iterator[str]:
    """As many as one likes, none of them twice."""
    for number in range(1 << 16):
        yield f"10.0.{number >> 8}.{number & 255}"


def _expect(answer: Answer, statuses: set[int]) -> None:
    if answer.status not in statuses:
        raise NotRefused(f"A login was answered {answer.status}: {answer.body.decode()}")
