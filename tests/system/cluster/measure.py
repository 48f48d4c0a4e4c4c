"""`make chaos ARGS="--cluster"`: faults of a Patroni cluster, measured by each way to it."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.system.cluster.bed import missing_programs
from tests.system.cluster.faults import FAULTS
from tests.system.cluster.rounds import HEAD, stage


def run_cluster_rounds(rounds: int, *, seed: int, faults: Sequence[str] | None) -> bool:
    """Cause every fault so many times, print what each cost; return whether a promise broke."""
    if missing := missing_programs():
        raise SystemExit(f"Install these of Debian's packages first: {', '.join(missing)}")
    return asyncio.run(_run(rounds, seed=seed, faults=faults or list(FAULTS)))


async def _run(rounds: int, *, seed: int, faults: Sequence[str]) -> bool:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="scopegate-patroni-") as folder:
        async with stage(Path(folder), seed=seed) as played:
            print(f"ready after {time.monotonic() - began:.0f} s\n{HEAD}", flush=True)
            for _ in range(rounds):
                for fault in faults:
                    print((await played.play(fault)).lines(), flush=True)
            print(f"answers: {dict(played.load.tally.replicas.answers + played.watch.answers)}")
            print(f"acknowledged writes looked for: {played.load.tally.written}")
            return any(each.violations for each in played.rounds)
