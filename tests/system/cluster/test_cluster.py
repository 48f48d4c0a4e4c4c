"""On a real Patroni cluster, no fault loses what was acknowledged or lets in what was revoked.

Each test is one fault under load, at six replicas that reach the cluster in three ways. What each
fault costs in seconds depends on the machine: `make chaos ARGS="--cluster"` prints it.
"""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.system.cluster.bed import CLUSTER
from tests.system.cluster.rounds import HEAD, Stage, stage

pytestmark = CLUSTER


@pytest.fixture(scope="session")
async def played() -> AsyncIterator[Stage]:
    """One cluster for all faults: to bring it up takes as long as a fault."""
    # Not pytest's folder: the servers run as another user, whom it keeps out.
    with tempfile.TemporaryDirectory(prefix="scopegate-patroni-") as folder:
        async with stage(Path(folder)) as running:
            yield running


@pytest.mark.parametrize(
    "fault", ["switchover", "leader killed", "leader unfenced", "standby lost", "etcd gone"]
)
async def test_a_fault_of_the_cluster_loses_nothing_and_lets_nothing_in(
    played: Stage, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No token past the bound, no lost write, no session ended, no 5xx but 503: and back again."""
    seen = await played.play(fault)
    with capsys.disabled():
        print(f"\n{HEAD}\n{seen.lines()}")
    assert not seen.violations
    assert played.load.tally.revocations > 0
    assert played.load.tally.written > 0
