"""Rounds of faults under load: inject, heal, see to it that all works again, compare."""

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import httpx2

from app.runtime import Runtime
from tests.chaos.faults import FAULTS
from tests.chaos.load import THERE, Load
from tests.chaos.postgres import cluster
from tests.chaos.second_service import NAME, SecondService
from tests.chaos.serving_process import ServingProcess
from tests.chaos.stage import Stage
from tests.chaos.tally import Tally
from tests.chaos.way import open_way
from tests.conftest import SECRET, client_of, settings_for
from tests.support.factories import Someone, login, make_user
from tests.support.processes import PATIENCE, free_port
from tests.support.services import make_service

PEOPLE = 5
ISSUER = "https://auth.example"


@dataclass
class Recovery:
    """How long the second service took at most, in seconds from the end of a fault."""

    served: float = 0.0
    """Until it let a token in again."""
    last_503: float = 0.0
    fresh: float = 0.0
    """Until it followed a stream again."""

    def note(self, served: float, last_503: float, fresh: float) -> None:
        """Note how long it took this time."""
        self.served = max(self.served, served)
        self.last_503 = max(self.last_503, last_503)
        self.fresh = max(self.fresh, fresh)


@dataclass
class Outcome:
    """What happened, and what became of it."""

    tally: Tally
    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    slowest_recovery: float = 0.0
    """Seconds from the end of a fault until every kind of request was served again."""
    second: Recovery = field(default_factory=Recovery)
    introspections: int = 0
    """Requests of the second service."""


async def run_rounds(
    rounds: int,
    *,
    seed: int,
    bound: float = 1.0,
    faults: list[str] | None = None,
    report: Callable[[Outcome, str], bool] = lambda *_: True,
) -> Outcome:
    """So many rounds, or until `report` says no; stops at the first that ends with a violation."""
    # Two, so that the faults are the same whatever the load makes of its own.
    chance, of_load = (random.Random(seed) for _ in range(2))  # noqa: S311 - to be repeated
    async with AsyncExitStack() as stack:
        stage, root, people = await _set_up(stack, chance, bound=bound)
        urls = [replica.url for replica in stage.replicas]
        load = Load(urls, people, root=root, bound=bound, chance=of_load, second=stage.second.url)
        outcome = Outcome(load.tally)
        async with load.running():
            await asyncio.gather(load.served(), stage.second.until_fresh())
            for drawn in islice(_in_turn(faults or list(FAULTS), chance), rounds):
                try:
                    await _play(drawn, stage, load, outcome)
                except TimeoutError:
                    load.tally.violation(f"{drawn}: what must follow did not in {PATIENCE:g} s")
                if not report(outcome, drawn) or load.tally.violations:
                    break
        return outcome


def _in_turn(faults: Sequence[str], chance: random.Random) -> Iterator[str]:
    """All faults in a random order, and then again in another."""
    while True:
        yield from chance.sample(faults, len(faults))


async def _play(drawn: str, stage: Stage, load: Load, outcome: Outcome) -> None:
    """One round: the fault, its end, and all that must be so after it."""
    try:
        await FAULTS[drawn](stage)
    finally:
        stage.heal()
    outcome.faults[drawn] += 1
    healed = time.monotonic()

    async def took(recovery: Awaitable[None]) -> float:
        await recovery
        return time.monotonic() - healed

    everything, there, fresh = await asyncio.gather(
        took(load.served()), took(load.served(THERE)), took(stage.second.until_fresh())
    )
    await load.verify(stage.database)
    outcome.slowest_recovery = max(outcome.slowest_recovery, everything)
    outcome.second.note(there, load.tally.second.last_503 - healed, fresh)
    outcome.introspections = stage.way.requests["POST /introspect"]
    outcome.rounds += 1


async def _set_up(
    stack: AsyncExitStack, chance: random.Random, *, bound: float
) -> tuple[Stage, str, list[Someone]]:
    """Start all of it; the token of an administrator, and the people."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scopegate-chaos-")))
    postgres = await stack.enter_async_context(cluster(folder))
    way = await stack.enter_async_context(open_way())
    root, people = await make_people(postgres.url, issuer=way.url)
    replicas = await stack.enter_async_context(
        started(2, folder, database_url=postgres.url, revocation_bound=bound, issuer=way.url)
    )
    asking = await stack.enter_async_context(httpx2.AsyncClient(timeout=PATIENCE))
    secret = await make_account(postgres.url)
    second = SecondService(folder, asking, issuer=way.url, secret=secret, token=root)
    stage = Stage(postgres, replicas, second, way, chance)
    stage.heal()
    stack.push_async_callback(second.stop)
    await second.start()
    return stage, root, people


async def make_account(database_url: str) -> str:
    """Return the secret of a new service account for the second service."""
    async with Runtime.open(settings_for(database_url)) as runtime:
        account = await make_service(runtime, NAME, "read:events", "introspect")
        return account.secret.value


async def make_people(database_url: str, *, issuer: str = ISSUER) -> tuple[str, list[Someone]]:
    """The token of somebody who may do everything, and some who may do less."""
    settings = settings_for(database_url, issuer=issuer, access_token_lifetime=86400)
    async with Runtime.open(settings) as runtime, client_of(runtime) as client:
        root = await login(client, await make_user(runtime, "admin"))
        people = [await make_user(runtime, "read:items", "write:items") for _ in range(PEOPLE)]
        return root.json()["access_token"], people


@asynccontextmanager
async def started(
    number: int, folder: Path, **settings: object
) -> AsyncIterator[list[ServingProcess]]:
    """Replicas on one database, ready. Raises AssertionError when one wrote a stack trace."""
    common = {
        "secret_keys": SECRET,
        "issuer": ISSUER,
        "access_token_lifetime": 86400,
        **settings,
    }
    replicas = [ServingProcess(folder, {**common, "port": free_port()}) for _ in range(number)]
    try:
        await asyncio.gather(*(replica.start() for replica in replicas))
        yield replicas
    finally:
        for replica in replicas:
            await replica.stop()
