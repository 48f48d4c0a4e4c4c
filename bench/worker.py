"""A worker as `scopegate serve` runs it: how soon it answers, and what it weighs after much work.

Its start is held to that of an app with the same imports, in turn with it. Its work is a mixture:
cached requests for the most part, and stretches of logins and of refreshes, in which all hashing
threads are busy. Several workers are weighed together, because they share memory.
"""

import asyncio
import math
import time
from dataclasses import dataclass

from app.ops.background import TRIM_INTERVAL
from bench import load
from bench.contestants import connected, prepare_scopegate, scopegate_served
from bench.effort import Effort
from bench.fill import Population
from bench.load import Job
from bench.postgres import Postgres
from bench.progress import say
from bench.rounds import Spread, aim
from bench.servers import Program, serving
from bench.storm import storm_of_logins, storm_of_refreshes

STRETCHES = 5
WORKERS = 4
REST = TRIM_INTERVAL + 1.0
"""Seconds without a request, after which a worker holds what it keeps."""


@dataclass(frozen=True)
class Start:
    """Seconds until a server's first answer: by the clock, and of its processor time."""

    clock: float
    processor: float


@dataclass(frozen=True)
class Work:
    """What a worker did, and its resident memory in bytes."""

    logins: int
    refreshes: int
    cached: int
    at_start: int
    at_most: int
    at_rest: int

    @property
    def requests(self) -> int:
        """All of them."""
        return self.logins + self.refreshes + self.cached

    @property
    def held(self) -> tuple[int, int, int]:
        """At the start, at the most, at rest."""
        return self.at_start, self.at_most, self.at_rest


@dataclass(frozen=True)
class Worker:
    """What was found; the starts by round, Scopegate's and the other's. No memory without Linux."""

    starts: list[tuple[Start, Start]]
    work: Work | None
    several: int | None
    """The PSS of WORKERS workers and their parent at rest, in bytes."""

    def slower(self, what: str) -> Spread:
        """How many times as long Scopegate takes to start."""
        return Spread.of([getattr(of, what) / getattr(to, what) for of, to in self.starts])


async def examine(postgres: Postgres, population: Population, effort: Effort) -> Worker:
    """Measure both, on a database of their own."""
    database = await postgres.create("worker")
    await prepare_scopegate(database, population)
    return Worker(
        await _starts(database, effort),
        await _work(database, population, effort),
        await _several(database, population, effort),
    )


async def _starts(database: str, effort: Effort) -> list[tuple[Start, Start]]:
    programs = [scopegate_served(database).program, connected(database)]
    for program in programs:  # what is read from disk the first time, and compiled
        await _start(program)
    found = []
    for number in range(1, effort.starts + 1):
        say(f"starting {number} of {effort.starts}")
        there = number % 2 == 1
        first, second = [await _start(each) for each in (programs if there else programs[::-1])]
        found.append((first, second) if there else (second, first))
    return found


async def _start(program: Program) -> Start:
    started = time.perf_counter()
    async with serving(program) as server:
        return Start(time.perf_counter() - started, server.processor_seconds())


async def _work(database: str, population: Population, effort: Effort) -> Work | None:
    contestant = scopegate_served(database)
    async with serving(contestant.program) as server:
        before = server.memory()
        if before is None:
            return None
        target = await aim(contestant, contestant.routes[0], server.port)
        logins = refreshes = cached = 0
        for number in range(1, STRETCHES + 1):
            say(f"working, stretch {number} of {STRETCHES}")
            logins += (await storm_of_logins(server, population, effort.stretch_seconds)).done
            refreshes += (await storm_of_refreshes(server, effort.stretch_seconds)).done
            goal = math.ceil(effort.requests * number / STRETCHES)
            rest = max(0, goal - logins - refreshes - cached)
            job = Job(server.port, target.requests, seconds=600.0, at_most=rest)
            cached += sum((await load.run(job)).statuses.values())
        await asyncio.sleep(REST)
        after = server.memory()
        assert after is not None
        most = server.peak_memory()
        return Work(logins, refreshes, cached, before.rss, most, after.rss)


async def _several(database: str, population: Population, effort: Effort) -> int | None:
    say(f"working, {WORKERS} workers")
    contestant = scopegate_served(database, workers=WORKERS)
    async with serving(contestant.program) as server:
        target = await aim(contestant, contestant.routes[0], server.port)
        await storm_of_logins(server, population, effort.stretch_seconds)
        await load.run(Job(server.port, target.requests, seconds=600.0, at_most=effort.requests))
        await asyncio.sleep(REST)
        return server.memory_of_all()
