"""What befalls the cluster. Each fault is caused, lasts, and is undone before it returns."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

from tests.support.processes import PATIENCE
from tests.system.cluster.bed import Cluster
from tests.system.cluster.node import Node

FROZEN = 40.0
"""Seconds that a leader stands still: twice Patroni's ttl, so another is promoted meanwhile."""
ETCD_GONE = 30.0
"""Seconds without etcd."""
BOTH_RUN = 10.0
"""Seconds that a replaced primary runs beside its successor: twice the revocation bound."""


async def switchover(cluster: Cluster) -> None:
    """An operator has another node lead."""
    old = cluster.leader
    answer = await old.ask("POST", "/switchover", {"leader": old.name})
    assert answer.status_code == 200, answer.text
    await successor_of(cluster, old)


async def leader_killed(cluster: Cluster) -> None:
    """The leader's Patroni and Postgres are killed at once, as if the machine lost power."""
    old = cluster.leader
    old.kill()
    await successor_of(cluster, old)


async def leader_frozen(cluster: Cluster) -> None:
    """The leader's machine stands still, and wakes after another was promoted."""
    old = cluster.leader
    old.freeze()
    try:
        await asyncio.sleep(FROZEN)
        await successor_of(cluster, old)
    finally:
        old.thaw()


async def leader_unfenced(cluster: Cluster) -> None:
    """Only Patroni is killed: the old Postgres takes writes beside its successor."""
    old = cluster.leader
    old.patroni.end(signal.SIGKILL)
    await successor_of(cluster, old)
    await asyncio.sleep(BOTH_RUN)


async def standby_lost(cluster: Cluster) -> None:
    """The standby that every commit waits for is killed."""
    standby = await cluster.synchronous_standby()
    standby.kill()
    await asyncio.sleep(BOTH_RUN)


async def etcd_gone(cluster: Cluster) -> None:
    """Etcd is down for a while. By Patroni's failsafe mode the leader goes on."""
    cluster.etcd.end()
    await asyncio.sleep(ETCD_GONE)


async def etcd_gone_without_failsafe(cluster: Cluster) -> None:
    """The same where failsafe mode is off: the leader steps down until etcd is back."""
    await _set_failsafe(cluster, on=False)
    try:
        cluster.etcd.end()
        await asyncio.sleep(ETCD_GONE)
    finally:
        await cluster.heal()
        await _set_failsafe(cluster, on=True)


FAULTS: dict[str, Callable[[Cluster], Awaitable[None]]] = {
    fault.__name__.replace("_", " "): fault
    for fault in (
        switchover,
        leader_killed,
        leader_frozen,
        leader_unfenced,
        standby_lost,
        etcd_gone,
        etcd_gone_without_failsafe,
    )
}


async def successor_of(cluster: Cluster, old: Node) -> None:
    """Return once another node leads."""
    try:
        async with asyncio.timeout(PATIENCE):
            while cluster.leader is old:
                await asyncio.sleep(0.05)
    except TimeoutError:
        logs = (f"{node.name}: {node.patroni.log.read_text()[-2000:]}" for node in cluster.nodes)
        raise AssertionError("no other node leads:\n" + "\n".join(logs)) from None


async def _set_failsafe(cluster: Cluster, *, on: bool) -> None:
    answer = await cluster.leader.ask("PATCH", "/config", {"failsafe_mode": on})
    assert answer.status_code == 200, answer.text
