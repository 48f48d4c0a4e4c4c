"""Scale: the same Scopegate on a small and on a large database, and how much longer things take.

A cached request is measured from outside; what a miss and a login ask of the database is measured
by calling, in this process, the functions that do it. All alternate between the two databases.
"""

import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from app.access.holders import load_holder
from app.db.work import Actor, Origin
from app.identity.candidates import Authentication
from app.identity.users import find_user
from app.runtime import Runtime
from app.tokens.issuing import password_grant
from bench import rounds
from bench.contestants import prepare_scopegate, scopegate_cached, scopegate_settings
from bench.effort import Effort
from bench.fill import Population
from bench.load import Load
from bench.peers.account import SCOPES
from bench.postgres import Postgres
from bench.progress import say
from bench.rounds import Spread, Target
from bench.servers import serving
from bench.wire import request

SMALL, LARGE = "scopegate_small", "scopegate_large"
TOKENS = 16  # of as many users: a cached request is not always the same one
CACHED, MISS, LOGIN = "a cached request", "a miss", "a login's database part"


@dataclass(frozen=True)
class Place:
    """One of the two databases, with a runtime of this process on it."""

    database: str
    population: Population
    runtime: Runtime


@dataclass(frozen=True)
class Comparison:
    """How long something takes, in seconds, in each database; the ratio is large over small."""

    what: str
    small: float
    large: float
    ratio: Spread


Seconds = Mapping[str, float]
"""By the name of the database."""
Call = Callable[[Place], Awaitable[object]]


async def compare(postgres: Postgres, effort: Effort) -> list[Comparison]:
    """Fill both databases and compare."""
    populations = {
        SMALL: Population(effort.small, min(effort.small, effort.sessions)),
        LARGE: Population(effort.large, effort.sessions),
    }
    async with AsyncExitStack() as stack:
        places = {}
        for name, population in populations.items():
            database = await postgres.create(name)
            await prepare_scopegate(database, population)
            runtime = await stack.enter_async_context(Runtime.open(scopegate_settings(database)))
            places[name] = Place(database, population, runtime)
        return [
            _comparison(CACHED, await _requests(places, effort)),
            _comparison(MISS, await _calls(MISS, load_one_holder, places, effort)),
            _comparison(LOGIN, await _calls(LOGIN, log_in, places, effort)),
        ]


async def load_one_holder(place: Place) -> None:
    """What a request costs the database whose session is not in the cache."""
    number = random.randrange(place.population.sessions)
    async with place.runtime.sessions() as db:
        holder = await load_holder(
            db,
            place.population.session_id(number),
            user_id=place.population.user_id(place.population.owner(number)),
            now=place.runtime.now(),
        )
    assert holder is not None
    assert len(holder.granted) == len(SCOPES)


async def log_in(place: Place) -> None:
    """All that a `POST /token` by password does, but for the hash."""
    username = place.population.username(random.randrange(place.population.users))
    async with place.runtime.sessions() as db:
        user = await find_user(db, username)
    assert user is not None
    assert user.password_hash is not None
    async with place.runtime.work(Actor(origin=Origin(address="192.0.2.1")), at_once=True) as work:
        await password_grant(
            work,
            place.runtime.issuer,
            person=Authentication(user.id, user.password_hash, at=work.now),
            client=None,
            requested=None,
        )


async def _requests(places: Mapping[str, Place], effort: Effort) -> Sequence[Seconds]:
    """Seconds that one `GET /users/me` takes a server, round by round."""
    async with AsyncExitStack() as stack:
        targets = []
        for name, place in places.items():
            contestant = scopegate_cached(place.database)
            server = await stack.enter_async_context(serving(contestant.program))
            names = map(place.population.username, range(TOKENS))
            tokens = [await contestant.sign_in(server.port, username) for username in names]
            requests = tuple(request("/users/me", token=token).decode() for token in tokens)
            targets.append(Target(name, server.port, requests))
        measured = await rounds.measure(targets, rounds=effort.rounds, seconds=effort.seconds)
    return [{name: _seconds_each(load) for name, load in each.items()} for each in measured]


def _seconds_each(load: Load) -> float:
    return 1 / load.throughput


async def _calls(
    what: str, call: Call, places: Mapping[str, Place], effort: Effort
) -> Sequence[Seconds]:
    """Seconds that one call takes, round by round; the first round only warms up."""
    found = []
    for number in range(effort.rounds + 1):
        found.append(await _time(call, places, effort.calls))
        say(f"{what}: round {number} of {effort.rounds}")
    return found[1:]


async def _time(call: Call, places: Mapping[str, Place], calls: int) -> Seconds:
    """Seconds that one call takes in each place, alternating call by call."""
    passed = dict.fromkeys(places, 0.0)
    for _ in range(calls):
        for name, place in places.items():
            started = time.perf_counter()
            await call(place)
            passed[name] += time.perf_counter() - started
    return {name: seconds / calls for name, seconds in passed.items()}


def _comparison(what: str, found: Sequence[Seconds]) -> Comparison:
    return Comparison(
        what,
        small=statistics.median(each[SMALL] for each in found),
        large=statistics.median(each[LARGE] for each in found),
        ratio=Spread.of([each[LARGE] / each[SMALL] for each in found]),
    )
