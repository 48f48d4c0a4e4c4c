"""Patroni gives the lock back to a leader that stood still, and acknowledged writes are lost.

Patroni 3.0 does it over etcd's v3 API: a leader that stops between reading who leads and renewing
its lock, and goes on after another was promoted, takes the lock back unasked.
"""

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from tests.chaos.rounds import make_people
from tests.chaos.serving_process import ServingProcess
from tests.conftest import SECRET
from tests.support.commands import printed, scopegate
from tests.support.factories import Someone, bearer, login
from tests.support.processes import PATIENCE
from tests.system.cluster.bed import CLUSTER, Cluster, patroni_cluster
from tests.system.cluster.faults import successor_of
from tests.system.cluster.node import POLL, Node
from tests.system.cluster.rounds import WAYS, settings_of

pytestmark = CLUSTER

IN_MID_CYCLE = 4.0
"""Seconds after which Patroni, which looks each 3 seconds, waits for its Postgres."""


async def freeze_in_mid_cycle(node: Node) -> None:
    """Stop Postgres, and then Patroni where it waits for it: it believes that it leads."""
    node.signal_postgres(signal.SIGSTOP)
    await asyncio.sleep(IN_MID_CYCLE)
    node.freeze()


async def until_answered(
    client: httpx2.AsyncClient, path: str, code: int, says: str = "", **headers: str
) -> None:
    """Ask until the answer has this code, and says this."""
    seen: dict[str, None] = {}
    for _ in range(int(PATIENCE / POLL)):
        answer = await client.get(path, headers=headers)
        if answer.status_code == code and says in answer.text:
            return
        seen[f"{answer.status_code} {answer.text}"] = None
        await asyncio.sleep(POLL)
    raise AssertionError(f"{client.base_url}{path} never answered {code} {says}: {list(seen)}")


async def refuse(client: httpx2.AsyncClient, token: dict[str, str], code: int) -> None:
    """It must refuse the token, however often it is asked."""
    answers = [await client.get("/items", headers=token) for _ in range(20)]
    assert [answer.status_code for answer in answers] == [code] * 20, client.base_url


@asynccontextmanager
async def replica_by(cluster: Cluster, folder: Path, way: str) -> AsyncIterator[httpx2.AsyncClient]:
    replica = ServingProcess(folder, settings_of(cluster, way))
    await replica.start()
    assert replica.service
    try:
        async with httpx2.AsyncClient(base_url=replica.service.url, timeout=15) as client:
            yield client
    finally:
        await replica.stop()


@asynccontextmanager
async def gone_back(
    folder: Path,
) -> AsyncIterator[tuple[Cluster, list[httpx2.AsyncClient], Someone, dict[str, str]]]:
    """Yield a replica by each way, and a token of somebody whose disabling was acknowledged."""
    async with patroni_cluster(folder, etcd3=True) as cluster, AsyncExitStack() as stack:
        # Last in the URL: what the standbys say must not hide that it was replaced.
        cluster.nodes.sort(key=lambda node: node is cluster.leader)
        root, (alice, *_) = await make_people(cluster.url("hosts")["database_url"])
        clients = [
            await stack.enter_async_context(replica_by(cluster, folder, way)) for way in WAYS
        ]
        token = await bearer(clients[0], alice)
        old = cluster.leader
        await freeze_in_mid_cycle(old)
        await successor_of(cluster, old)
        for client in clients:
            await until_answered(client, "/items", 200, **token)
        disabled = await clients[0].patch(
            f"/users/{alice.id}",
            json={"disabled": True},
            headers={"Authorization": f"Bearer {root}"},
        )
        assert disabled.status_code == 200, disabled.text
        for client in clients:
            await until_answered(client, "/items", 401, **token)
        old.thaw()
        yield cluster, clients, alice, token


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's folder: the servers run as another user, whom it keeps out.
    with tempfile.TemporaryDirectory(prefix="scopegate-patroni-") as name:
        yield Path(name)


async def test_when_patroni_goes_back_every_replica_says_why_and_recovery_lets_them_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gone_back(folder) as (cluster, clients, alice, token):
        for client in clients:
            await until_answered(client, "/health/ready", 503, "run scopegate recover")
            await refuse(client, token, 503)

        monkeypatch.setenv("SCOPEGATE_SECRET_KEYS", SECRET)
        for name, value in cluster.url("hosts").items():
            monkeypatch.setenv(f"SCOPEGATE_{name.upper()}", value)
        doctor = await scopegate("doctor")
        assert doctor.exit_code == 1
        assert "run scopegate recover" in doctor.stdout

        await printed("recover", "--yes")
        for client in clients:
            await until_answered(client, "/health/ready", 200)
            await refuse(client, token, 401)
        assert (await login(clients[0], alice)).status_code == 200, "to be disabled once more"
        async with replica_by(cluster, folder, "hosts") as later:
            await refuse(later, token, 401)
