"""A storm of logins: what it does to everybody else, how many come in; and what a core does.

Each round measures a protected route alone, then with so many logins going on, on Scopegate and on
the tutorial's app in turn; and logins alone against hashing alone, with as many threads: with those
that there are by default, and with one, which leaves a core to all else where there are two.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from app.identity.hash_queue import Source
from app.identity.passwords import PasswordHasher
from app.settings import Settings
from bench import load
from bench.contestants import (
    SERVICE,
    TUTORIAL,
    Contestant,
    scopegate_cached,
    scopegate_hashing,
    tutorial,
)
from bench.effort import Effort
from bench.errors import BenchmarkFailed
from bench.fill import Population
from bench.load import CONNECTIONS, Job, Load
from bench.peers.account import PASSWORD, PASSWORD_HASH, USERNAME
from bench.postgres import Postgres
from bench.progress import say
from bench.rounds import aim
from bench.servers import OURS, ROOT, Server, environment, serving
from bench.wire import Connection, request

STORMERS = 32
"""Connections that sign in, each with one login in flight."""
HEAD_START = 0.5  # seconds of storm before the protected route is measured in it
THREADS: int = Settings.model_fields["hash_threads"].default

LOGINS, REFRESHES = "logins by password", "refreshes"
KEYCLOAK = {LOGINS: 15.0, REFRESHES: 120.0}
"""A second and vCPU, by Keycloak's "Concepts for sizing CPU and memory resources"."""


@dataclass(frozen=True)
class Weather:
    """A protected route, asked over one connection: in a calm, and in a storm of logins."""

    calm: Load
    storm: Load
    logins: Load


@dataclass(frozen=True)
class Yield:
    """What a server did, and the processor time that it took for it."""

    done: int
    seconds: float
    processor: float

    @property
    def a_second(self) -> float:
        """By the clock."""
        return self.done / self.seconds

    @property
    def a_core(self) -> float:
        """A second of one core's time; Postgres has its own."""
        return self.done / self.processor


@dataclass(frozen=True)
class Storm:
    """What was found, a value a round."""

    weather: dict[str, list[Weather]]
    logins_over_hashes: dict[int, list[float]]
    """By the number of hashing threads."""
    yields: dict[str, list[Yield]]


async def brew(postgres: Postgres, population: Population, effort: Effort) -> Storm:
    """Measure all of it, on the database of the contest, which is over."""
    found = Storm({}, {1: [], THREADS: []}, {LOGINS: [], REFRESHES: []})
    database = postgres.url_of("scopegate")
    contestants = [scopegate_cached(database), tutorial(TUTORIAL, algorithm="HS256")]
    one_thread = scopegate_hashing(database, threads=1).program
    async with AsyncExitStack() as stack:
        servers = [
            (each, await stack.enter_async_context(serving(each.program))) for each in contestants
        ]
        ours = servers[0][1]
        hashing = {1: await stack.enter_async_context(serving(one_thread)), THREADS: ours}
        for number in range(1, effort.storms + 1):
            for contestant, server in servers if number % 2 else servers[::-1]:
                weather = await _weather(contestant, server.port, population, effort.storm_seconds)
                found.weather.setdefault(contestant.name, []).append(weather)
            for threads, server in hashing.items():
                logins = await storm_of_logins(server, population, effort.storm_seconds)
                hashes = await _hashes_a_second(effort.storm_seconds, threads)
                found.logins_over_hashes[threads].append(logins.a_second / hashes)
            found.yields[LOGINS].append(logins)
            found.yields[REFRESHES].append(await storm_of_refreshes(ours, effort.storm_seconds))
            say(f"storm {number} of {effort.storms}: {logins.a_second:.0f} logins a second")
    return found


async def _weather(
    contestant: Contestant, port: int, population: Population, seconds: float
) -> Weather:
    target = await aim(contestant, contestant.routes[0], port)
    asking = Job(port, target.requests, seconds, connections=1)
    calm = await load.run(asking)
    # The tutorial has one user. Of ours they are many: one account has a share of the queue only.
    names = (
        [population.username(n) for n in range(100)] if contestant.name == SERVICE else [USERNAME]
    )
    storm = Job(
        port, [_login(name) for name in names], seconds + 2 * HEAD_START, connections=STORMERS
    )
    logins = asyncio.create_task(load.run(storm))
    await asyncio.sleep(HEAD_START)
    return Weather(calm, await load.run(asking), await logins)


async def storm_of_logins(server: Server, population: Population, seconds: float) -> Yield:
    """By many connections at once, so that no hashing thread ever waits."""
    names = [population.username(number) for number in range(100)]
    before = server.processor_seconds()
    done = await load.run(
        Job(server.port, [_login(name) for name in names], seconds, connections=STORMERS)
    )
    processor = server.processor_seconds() - before
    return Yield(sum(done.statuses.values()), done.seconds, processor)


async def storm_of_refreshes(server: Server, seconds: float) -> Yield:
    """Each connection has a session of its own, and uses each token once."""
    return await refresh_all(server, await sign_in_all(server), seconds)


async def sign_in_all(server: Server) -> list[tuple[Connection, str]]:
    """Open sessions, and a connection for each; return its refresh token beside it."""
    first = await Connection.open(server.port)
    tokens = [await _pair(first, _login(USERNAME).encode()) for _ in range(CONNECTIONS)]
    first.close()
    # Only now: the server closes a connection that nobody uses.
    return [(await Connection.open(server.port), token) for token in tokens]


async def refresh_all(
    server: Server, sessions: Sequence[tuple[Connection, str]], seconds: float
) -> Yield:
    """Refresh these sessions all the time, then close their connections."""
    done, started, before = 0, time.perf_counter(), server.processor_seconds()

    async def keep_refreshing(connection: Connection, token: str) -> None:
        nonlocal done
        while time.perf_counter() - started < seconds:
            form = {"grant_type": "refresh_token", "refresh_token": token}
            token = await _pair(connection, request("/token", method="POST", form=form))
            done += 1

    async with asyncio.TaskGroup() as group:
        for connection, token in sessions:
            group.create_task(keep_refreshing(connection, token))
    seconds, processor = time.perf_counter() - started, server.processor_seconds() - before
    for connection, _ in sessions:
        connection.close()
    return Yield(done, seconds, processor)


async def _pair(connection: Connection, raw: bytes) -> str:
    answer = await connection.ask(raw)
    if answer.status != 200:
        raise BenchmarkFailed(f"POST /token answered {answer.status}: {answer.body.decode()}")
    token: str = answer.json()["refresh_token"]
    return token


def _login(username: str) -> str:
    form = {"grant_type": "password", "username": username, "password": PASSWORD}
    return request("/token", method="POST", form=form).decode()


async def _hashes_a_second(seconds: float, threads: int) -> float:
    """What as many threads do that only verify passwords, in a process of their own."""
    process = await asyncio.create_subprocess_exec(
        *(OURS, "-m", "bench.storm", str(seconds), str(threads)),
        cwd=ROOT,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    rate: float = json.loads(output)
    return rate


async def _hash(seconds: float, threads: int) -> float:
    hasher = PasswordHasher(threads=threads, queue=STORMERS)
    started, done = time.perf_counter(), 0

    async def keep_hashing(account: str) -> None:
        nonlocal done
        source = Source("logins", account=account)
        while time.perf_counter() - started < seconds:
            correct, _ = await hasher.verify(PASSWORD, PASSWORD_HASH, source=source)
            assert correct
            done += 1

    async with asyncio.TaskGroup() as group:
        for number in range(STORMERS):
            group.create_task(keep_hashing(str(number)))
    hasher.close()
    return done / (time.perf_counter() - started)


def rise(weather: Sequence[Weather], *, percent: int) -> float:
    """How many times as long the route takes in a storm: the median of the rounds' ratios."""
    name = f"p{percent}"
    ratios = [getattr(each.storm, name) / getattr(each.calm, name) for each in weather]
    return float(statistics.median(ratios))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_hash(float(sys.argv[1]), int(sys.argv[2])))))
