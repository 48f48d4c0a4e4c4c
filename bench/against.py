"""This checkout beside another one, such as the release before: what has become slower?

Both serve on one Postgres as an operator runs them, with this checkout's libraries. They are
measured in turn, round by round, and ratios are formed within a round.
"""

import csv
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.contestants import SignIn, scopegate_environment
from bench.costs import KINDS, Spent, Target, make_service, postmaster_of, spend
from bench.effort import Effort
from bench.errors import BenchmarkFailed
from bench.fill import Population
from bench.peers.account import PASSWORD_HASH
from bench.postgres import Postgres
from bench.progress import say
from bench.rounds import Spread
from bench.servers import OURS, ROOT, Program, run_to_its_end, serving

T = TypeVar("T")

PEOPLE = Population(100, 100)


@dataclass(frozen=True)
class Against:
    """What a piece of work took here, over what it took there: a ratio for each round."""

    what: str
    by_clock: Spread
    by_server: Spread
    """Processor time of the server's process."""
    by_all: Spread | None
    """Processor time of Postgres too, where its processes can be seen."""


async def compare(postgres: Postgres, checkout: Path, effort: Effort) -> list[Against]:
    """Measure both checkouts. Raises BenchmarkFailed when there is no Scopegate in the other."""
    if not (checkout / "app" / "settings.py").exists():
        raise BenchmarkFailed(f"{checkout} is no checkout of Scopegate")
    found: dict[str, list[tuple[Spent, Spent]]] = {}
    postmaster = await postmaster_of(postgres.url)
    async with (
        _served(postgres, "here", ROOT) as here,
        _served(postgres, "there", checkout) as there,
    ):
        for number in range(1, effort.rounds + 1):
            say(f"round {number} of {effort.rounds}")
            for what, kind in KINDS.items():
                pair = [
                    await spend(kind, target, effort.seconds, postmaster)
                    for target in _in_turn([here, there], number)
                ]
                found.setdefault(what, []).append(_pair(pair, number))
    return [_against(what, pairs) for what, pairs in found.items()]


def _in_turn(sides: list[T], number: int) -> list[T]:
    return sides if number % 2 else sides[::-1]


def _pair(measured: list[Spent], number: int) -> tuple[Spent, Spent]:
    here, there = _in_turn(measured, number)
    return here, there


def _against(what: str, pairs: list[tuple[Spent, Spent]]) -> Against:
    def ratios(cost: Callable[[Spent], float]) -> Spread:
        return Spread.of([(cost(a) / a.done) / (cost(b) / b.done) for a, b in pairs])

    seen = all(each.postgres is not None for pair in pairs for each in pair)
    return Against(
        what,
        ratios(lambda spent: spent.seconds),
        ratios(lambda spent: spent.server),
        ratios(lambda spent: spent.server + (spent.postgres or 0)) if seen else None,
    )


@asynccontextmanager
async def _served(postgres: Postgres, name: str, checkout: Path) -> AsyncIterator[Target]:
    """Serve a checkout, with a hundred people and a service account in its database."""
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
    secret = await make_service([OURS, "-m", "app"], environment)
    async with serving(command("serve")) as server:
        yield Target(server, await SignIn("/token")(server.port), secret)
