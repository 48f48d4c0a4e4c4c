"""Rounds of faults on a Patroni cluster, under load: what each costs, and must never cost."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.load import Load
from tests.chaos.rounds import ISSUER, make_people
from tests.chaos.serving_process import ServingProcess
from tests.conftest import SECRET
from tests.support.processes import free_port
from tests.system.cluster.bed import Cluster, patroni_cluster
from tests.system.cluster.faults import FAULTS
from tests.system.cluster.watch import Seen, Watch, Way

WAYS = ("haproxy", "hosts", "pgbouncer")
REPLICAS = 2
"""By each way."""
BOUND = 5.0
PAUSE = 0.1
"""Seconds between two things that one person does: two cores run all of the cluster."""


@dataclass(frozen=True)
class Round:
    """One fault, and what it cost."""

    fault: str
    took: float
    """Seconds until all was whole and served again."""
    leader_after: float
    """Seconds until a leader was there; 0 where it never left."""
    seen: dict[str, Seen]
    violations: list[str]

    def lines(self) -> str:
        """Return the round as text, a line for each way."""
        lines = [
            f"{self.fault if number == 0 else '':28} {self.leader_after:6.1f}  {way:9}"
            f"  {seen.reads:6.1f} {seen.reads_beyond:6.1f}  {seen.writes:6.1f}"
            f" {seen.writes_beyond:6.1f}  {seen.falsely_ready:6.1f}  {seen.signed_out:6}"
            for number, (way, seen) in enumerate(self.seen.items())
        ]
        lines[0] += f"  {self.took:6.0f}"
        return "\n".join([*lines, *(f"  VIOLATION: {each}" for each in self.violations[:10])])


HEAD = (
    f"{'fault':28} leader  {'way':9}  {'reads':>6} beyond  writes beyond  falsely  signed   took\n"
    f"{'':28}  after  {'':9}  {'':6} leader  {'':6} leader    ready     out"
)


@dataclass
class Stage:
    """A cluster with replicas and people at work."""

    cluster: Cluster
    load: Load
    watch: Watch
    rounds: list[Round] = field(default_factory=list)

    async def play(self, fault: str) -> Round:
        """Cause the fault, undo it, wait until all is served, and check the database."""
        self.watch.begin()
        self.load.tally.violations.clear()
        self.watch.violations.clear()
        began, timeline = time.monotonic(), self.cluster.leaders[-1][2]
        await FAULTS[fault](self.cluster)
        await self.cluster.heal()
        await self.load.served()
        await self.watch.settled()
        took = time.monotonic() - began
        later = [at for at, _, newer in self.cluster.leaders if newer > timeline]
        seen = self.watch.seen(later[0] if later else began)
        await self._verify()
        self.rounds.append(
            Round(
                fault,
                took,
                later[0] - began if later else 0.0,
                seen,
                [*self.load.tally.violations, *self.watch.violations],
            )
        )
        return self.rounds[-1]

    async def _verify(self) -> None:
        await self.load.verify(self.cluster.connect)
        database = await self.cluster.connect()
        try:
            self.load.tally.written += await self.watch.verify(database)
        finally:
            await database.close()


@asynccontextmanager
async def stage(folder: Path, *, seed: int = 1, ways: Sequence[str] = WAYS) -> AsyncIterator[Stage]:
    """Run the cluster, two replicas by each way, and people at work on all of them."""
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(patroni_cluster(folder))
        root, people = await make_people(cluster.url("hosts")["database_url"])
        replicas = {
            way: [ServingProcess(folder, settings_of(cluster, way)) for _ in range(REPLICAS)]
            for way in ways
        }
        every = [replica for each in replicas.values() for replica in each]
        for replica in every:
            stack.push_async_callback(replica.stop)
        await asyncio.gather(*(replica.start() for replica in every))
        chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        load = Load(_urls(every), people[1:], root=root, bound=BOUND, chance=chance, pause=PAUSE)
        watch = Watch([Way(way, _urls(replicas[way])) for way in ways], people[0])
        async with load.running(), watch.running():
            await load.served()
            await watch.settled()
            yield Stage(cluster, load, watch)


def settings_of(cluster: Cluster, way: str) -> dict[str, object]:
    """Return the settings of a replica that reaches the cluster by this way."""
    return {
        "secret_keys": SECRET,
        "issuer": ISSUER,
        "access_token_lifetime": 86400,
        "revocation_bound": BOUND,
        "port": free_port(),
        **cluster.url(way),
    }


def _urls(replicas: list[ServingProcess]) -> list[str]:
    return [replica.service.url for replica in replicas if replica.service]
