"""This checkout beside another one, such as the release before: what has become slower?

Both serve on one Postgres as an operator runs them, with this checkout's libraries. They are
measured in turn, round by round, and ratios are formed within a round.
"""

import csv
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench import load
from bench.contestants import SignIn, scopegate_environment
from bench.effort import Effort
from bench.errors import BenchmarkFailed
from bench.fill import Population
from bench.load import Job
from bench.peers.account import PASSWORD_HASH
from bench.postgres import Postgres
from bench.progress import say
from bench.rounds import Spread
from bench.servers import OURS, ROOT, Program, Server, run_to_its_end, serving
from bench.storm import Yield, storm_of_logins, storm_of_refreshes
from bench.wire import request

T = TypeVar("T")

PATHS = ("/health/live", "/users/me", "/items")
PEOPLE = Population(100, 100)


@dataclass(frozen=True)
class Against:
    """What a piece of work took here, over what it took there: a ratio for each round."""

    what: str
    by_clock: Spread
    by_processor: Spread
    """Of the server's process alone: Postgres has its own."""


async def compare(postgres: Postgres, checkout: Path, effort: Effort) -> list[Against]:
    """Measure both checkouts. Raises BenchmarkFailed when there is no Scopegate in the other."""
    if not (checkout / "app" / "settings.py").exists():
        raise BenchmarkFailed(f"{checkout} is no checkout of Scopegate")
    found: dict[str, list[tuple[Yield, Yield]]] = {}
    async with (
        _served(postgres, "here", ROOT) as here,
        _served(postgres, "there", checkout) as there,
    ):
        tokens = [await SignIn("/token")(each.port) for each in (here, there)]
        sides = list(zip((here, there), tokens, strict=True))
        for number in range(1, effort.rounds + 1):
            say(f"round {number} of {effort.rounds}")
            for path in PATHS:
                pair = [
                    await _asked(*side, path, effort.seconds) for side in _in_turn(sides, number)
                ]
                found.setdefault(f"GET {path}", []).append(_pair(pair, number))
            for what, storm in STORMS.items():
                pair = [
                    await storm(server, effort.seconds) for server, _ in _in_turn(sides, number)
                ]
                found.setdefault(what, []).append(_pair(pair, number))
    return [_against(what, pairs) for what, pairs in found.items()]


async def _logins(server: Server, seconds: float) -> Yield:
    return await storm_of_logins(server, PEOPLE, seconds)


STORMS = {"logins": _logins, "refreshes": storm_of_refreshes}


def _in_turn(sides: list[T], number: int) -> list[T]:
    return sides if number % 2 else sides[::-1]


def _pair(measured: list[Yield], number: int) -> tuple[Yield, Yield]:
    here, there = _in_turn(measured, number)
    return here, there


def _against(what: str, pairs: list[tuple[Yield, Yield]]) -> Against:
    return Against(
        what,
        Spread.of([there.a_second / here.a_second for here, there in pairs]),
        Spread.of([there.a_core / here.a_core for here, there in pairs]),
    )


async def _asked(server: Server, token: str, path: str, seconds: float) -> Yield:
    before = server.processor_seconds()
    raw = request(path, token=token).decode()
    done = await load.run(Job(server.port, [raw], seconds))
    return Yield(sum(done.statuses.values()), done.seconds, server.processor_seconds() - before)


@asynccontextmanager
async def _served(postgres: Postgres, name: str, checkout: Path) -> AsyncIterator[Server]:
    """Serve a checkout, with a hundred people in its database."""
    environment = scopegate_environment(await postgres.create(f"against_{name}"))
    environment["PYTHONPATH"] = str(checkout)

    def command(*words: str) -> Program:
        return Program([OURS, "-m", "app", *words], environment)

    with tempfile.NamedTemporaryFile("w", suffix=".csv") as people:
        rows = csv.writer(people)
        rows.writerow(["username", "password_hash", "scopes"])
        for number in range(PEOPLE.users):
            rows.writerow([PEOPLE.username(number), PASSWORD_HASH, "read:items write:items"])
        people.flush()
        say(f"preparing {checkout}")
        await run_to_its_end(command("migrate"))
        await run_to_its_end(command("user", "import", people.name))
    async with serving(command("serve")) as server:
        yield server
