"""Rounds of faults under load: inject, heal, see to it that all works again, compare."""

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.runtime import Runtime
from tests.chaos.faults import FAULTS, Replica, Stage
from tests.chaos.load import Load, Tally
from tests.chaos.postgres import cluster
from tests.conftest import SECRET, client_of, settings_for
from tests.support.factories import Someone, login, make_user
from tests.support.processes import free_port

PEOPLE = 5
ISSUER = "https://auth.example"


@dataclass
class Outcome:
    """What happened, and what became of it."""

    tally: Tally
    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    slowest_recovery: float = 0.0
    """Seconds from the end of a fault until every kind of request was served again."""


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
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scopegate-chaos-")))
        postgres = await stack.enter_async_context(cluster(folder))
        root, people = await make_people(postgres.url)
        replicas = await stack.enter_async_context(
            started(2, folder, database_url=postgres.url, revocation_bound=bound)
        )
        urls = [replica.service.url for replica in replicas if replica.service]
        load = Load(urls, people, root=root, bound=bound, chance=of_load)
        outcome = Outcome(load.tally)
        stage = Stage(postgres, replicas, chance)
        async with load.running():
            await load.served()
            for _ in range(rounds):
                drawn = chance.choice(faults or list(FAULTS))
                await FAULTS[drawn](stage)
                outcome.faults[drawn] += 1
                healed = time.monotonic()
                await load.served()
                outcome.slowest_recovery = max(outcome.slowest_recovery, time.monotonic() - healed)
                await load.verify(stage.database)
                outcome.rounds += 1
                if not report(outcome, drawn) or load.tally.violations:
                    break
        return outcome


async def make_people(database_url: str) -> tuple[str, list[Someone]]:
    """The token of somebody who may do everything, and some who may do less."""
    settings = settings_for(database_url, issuer=ISSUER, access_token_lifetime=86400)
    async with Runtime.open(settings) as runtime, client_of(runtime) as client:
        root = await login(client, await make_user(runtime, "admin"))
        people = [await make_user(runtime, "read:items", "write:items") for _ in range(PEOPLE)]
        return root.json()["access_token"], people


@asynccontextmanager
async def started(number: int, folder: Path, **settings: object) -> AsyncIterator[list[Replica]]:
    """Replicas on one database, ready. Raises AssertionError when one wrote a stack trace."""
    common = {
        "secret_keys": SECRET,
        "issuer": ISSUER,
        "access_token_lifetime": 86400,
        **settings,
    }
    replicas = [Replica(folder, {**common, "port": free_port()}) for _ in range(number)]
    try:
        await asyncio.gather(*(replica.start() for replica in replicas))
        yield replicas
    finally:
        for replica in replicas:
            await replica.stop()
