"""Fairness: whether others can sign in while one account, or names without end, fill the queue.

The server trusts this machine as a proxy, so each request can come from an address of its own.
`python -m bench.fairness PORT` measures a server that runs already, on the bench's database.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import uvloop

from bench.contestants import scopegate_behind_proxy
from bench.effort import FULL, Effort
from bench.fill import Population
from bench.load import percentile
from bench.peers.account import PASSWORD
from bench.postgres import Postgres
from bench.progress import say
from bench.servers import serving
from bench.wire import Answer, Connection, request

ATTACKERS = 80
"""Connections, each with one login in flight."""
HONEST = 4
"""Connections of others, each login as another user from another address."""
HEAD_START = 0.5  # seconds of attack before the others come
PAUSE = 0.05  # seconds between two logins of others, and after an attacker's that was refused
IN, QUEUE_FULL, OTHERWISE = "in", "no place in the queue", "otherwise"


@dataclass(frozen=True)
class Attack:
    """What fills the queue: under which name and from which address each login comes."""

    what: str
    addresses: int
    username: Callable[[int], str]


ATTACKS = (
    Attack("one account's right password, from one address", 1, lambda _: "user-0"),
    Attack("one account's right password, from 50 addresses", 50, lambda _: "user-0"),
    Attack("unknown names, from 50 addresses", 50, "nobody-{}".format),
)


@dataclass(frozen=True)
class Fairness:
    """What was answered to the others, and in how many seconds to those who got in."""

    attack: str
    attackers: Counter[str] = field(default_factory=Counter)
    honest: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the others' logins, those that got in at the first try."""
        return self.honest[IN] / self.honest.total()

    def times(self) -> str:
        """The median and the 99th percentile, in ms."""
        if not self.seconds:
            return "none got in"
        p50, p99 = (percentile(self.seconds, percent) * 1e3 for percent in (50, 99))
        return f"{p50:.0f}, {p99:.0f}"


async def queue_up(postgres: Postgres, population: Population, effort: Effort) -> list[Fairness]:
    """Measure all attacks, on the database of the contest, which is over."""
    contestant = scopegate_behind_proxy(postgres.url_of("scopegate"))
    found = []
    for attack in ATTACKS:
        # A new one each time: nothing of the attack before is left in its queue.
        async with serving(contestant.program) as server:
            found.append(await measure(server.port, population, attack, effort.storm_seconds))
    return found


async def measure(port: int, population: Population, attack: Attack, seconds: float) -> Fairness:
    """Attack, and sign in as others meanwhile."""
    say(f"fairness: {attack.what}")
    found = Fairness(attack.what)
    end = time.perf_counter() + HEAD_START + seconds
    numbers = iter(range(1_000_000))

    async def keep_attacking() -> None:
        connection = await Connection.open(port)
        while time.perf_counter() < end:
            number = next(numbers)
            address = f"127.0.1.{number % attack.addresses + 1}"
            answer = await connection.ask(_login(attack.username(number), address))
            outcome = _outcome(answer)
            found.attackers[outcome] += 1
            if outcome == QUEUE_FULL:
                await asyncio.sleep(PAUSE)
        connection.close()

    async def keep_signing_in(first: int) -> None:
        connection = await Connection.open(port)
        await asyncio.sleep(HEAD_START)
        user = first
        while time.perf_counter() < end:
            user += HONEST
            name = population.username(user % (population.users - HONEST) + 1)
            started = time.perf_counter()
            answer = await connection.ask(_login(name, f"127.0.{user % 200 + 2}.{first + 1}"))
            outcome = _outcome(answer)
            found.honest[outcome] += 1
            if outcome == IN:
                found.seconds.append(time.perf_counter() - started)
            await asyncio.sleep(PAUSE)
        connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(ATTACKERS):
            group.create_task(keep_attacking())
        for first in range(HONEST):
            group.create_task(keep_signing_in(first))
    return found


def _outcome(answer: Answer) -> str:
    if answer.status == 503 and b"Too many logins" in answer.body:
        return QUEUE_FULL
    return IN if answer.status == 200 else OTHERWISE


def _login(username: str, address: str) -> bytes:
    form = {"grant_type": "password", "username": username, "password": PASSWORD}
    return request("/token", method="POST", headers={"X-Forwarded-For": address}, form=form)


async def _measure_running(port: int) -> None:
    for attack in ATTACKS:
        population = Population(FULL.small, FULL.small)
        found = await measure(port, population, attack, FULL.storm_seconds)
        print(
            f"{found.attack}: of {found.honest.total()} other logins {found.share:.0%} got in, "
            f"median and p99 in ms: {found.times()}; {dict(found.honest)}; "
            f"the attackers' answers: {dict(found.attackers)}"
        )


if __name__ == "__main__":
    uvloop.run(_measure_running(int(sys.argv[1])))
