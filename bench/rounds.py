"""Rounds: everything is measured for a moment, then everything again, and ratios are formed inside.

Two numbers of different minutes can't be compared on a machine that does other things too; two of
the same round can.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench import load
from bench.contestants import Contestant, Route
from bench.errors import BenchmarkFailed
from bench.load import Job, Load
from bench.progress import say
from bench.wire import ask_once, request

Round = dict[str, Load]


class NotComparable(BenchmarkFailed):
    """A route does not do what it is measured for."""


@dataclass(frozen=True)
class Target:
    """What load is sent to, under the name that results have."""

    name: str
    port: int
    requests: tuple[str, ...]


@dataclass(frozen=True)
class Spread:
    """What came out in the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of these."""
        return cls(statistics.median(values), min(values), max(values))


async def aim(contestant: Contestant, route: Route, port: int) -> Target:
    """A target whose route was seen to answer whom it should, and to refuse the rest.

    Raises NotComparable.
    """
    token = await contestant.sign_in(port) if route.protected else None
    raw = request(route.path, token=token)
    answer = await ask_once(port, raw)
    if answer.status != 200 or not isinstance(answer.json(), dict):
        raise NotComparable(f"{route.name} answers {answer.status} to whom it should let in")
    without = await ask_once(port, request(route.path))
    if (without.status in {401, 403}) is not route.protected:
        raise NotComparable(f"{route.name} answers {without.status} to whoever brings no token")
    return Target(route.name, port, (raw.decode(),))


async def measure(targets: Sequence[Target], *, rounds: int, seconds: float) -> list[Round]:
    """Warm all up, then measure all in each round. Raises WrongAnswer."""
    for target in targets:
        say(f"warming up: {target.name}")
        await load.run(Job(target.port, target.requests, min(seconds, 1.0)))
    return [await _round(targets, number, rounds, seconds) for number in range(1, rounds + 1)]


async def _round(targets: Sequence[Target], number: int, rounds: int, seconds: float) -> Round:
    found: Round = {}
    # There and back: whoever is last in one round is first in the next.
    for target in targets if number % 2 else targets[::-1]:
        measured = await load.run(Job(target.port, target.requests, seconds))
        found[target.name] = measured
        say(f"round {number} of {rounds}: {target.name}: {measured.throughput:,.0f} a second")
    return found


def ratio(rounds: Sequence[Round], of: str, to: str) -> Spread:
    """One target's throughput over another's, formed within each round."""
    return Spread.of([each[of].throughput / each[to].throughput for each in rounds])
