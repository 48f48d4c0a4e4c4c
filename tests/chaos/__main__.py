"""`make chaos`: rounds of random faults under load, with a checker beside them."""

import argparse
import asyncio
import secrets
import sys
import time

from tests.chaos.faults import FAULTS
from tests.chaos.rounds import Outcome, run_rounds
from tests.system.cluster.faults import FAULTS as OF_CLUSTER
from tests.system.cluster.measure import run_cluster_rounds


def main() -> None:
    """Run the rounds that the command line asks for, tell of them, and exit 1 on a violation."""
    parser = argparse.ArgumentParser(
        prog="make chaos",
        description="Two replicas on one Postgres, a second service that follows their event "
        "stream, people at work, and a random fault each round. Then: every kind of request is "
        "served again, all that was acknowledged is in the database, nothing revoked was let in "
        "past the bound by any of them, and nothing was answered by a 500.",
    )
    parser.add_argument("--rounds", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="start no round after so many")
    parser.add_argument("--seed", type=int, help="the faults in this order (default: any)")
    parser.add_argument("--bound", type=float, default=1.0, help="SCOPEGATE_REVOCATION_BOUND")
    parser.add_argument(
        "--fault", action="append", choices=[*FAULTS, *OF_CLUSTER], help="only this; repeatable"
    )
    parser.add_argument(
        "--cluster",
        action="store_true",
        help="each round all faults of a real Patroni cluster instead, and what each costs in "
        "seconds; needs Debian's patroni, etcd-server, haproxy, pgbouncer and postgresql",
    )
    asked = parser.parse_args()
    seed = secrets.randbelow(2**32) if asked.seed is None else asked.seed
    print(f"Chaos: {asked.rounds} rounds, seed {seed}")
    if asked.cluster:
        sys.exit(run_cluster_rounds(asked.rounds, seed=seed, faults=asked.fault))
    began = time.monotonic()

    def report(outcome: Outcome, fault: str) -> bool:
        spent = time.monotonic() - began
        print(
            f"{outcome.rounds:5}  {spent:6.0f} s  {fault:26}"
            f"  {outcome.tally.replicas.answers.total()} answers"
            f"  {outcome.tally.second.answers.total()} of the second service",
            flush=True,
        )
        return asked.seconds is None or spent < asked.seconds

    outcome = asyncio.run(
        run_rounds(asked.rounds, seed=seed, bound=asked.bound, faults=asked.fault, report=report)
    )
    print(summary(outcome, bound=asked.bound))
    sys.exit(bool(outcome.tally.violations))


def summary(outcome: Outcome, *, bound: float) -> str:
    """The tally, for people."""
    tally, replicas, second = outcome.tally, outcome.tally.replicas, outcome.tally.second
    probes = replicas.probes + second.probes
    there = outcome.second
    lines = {
        "rounds": outcome.rounds,
        "faults": _counted(outcome.faults),
        "answers": _counted(replicas.answers),
        "served": _counted(tally.served),
        "revocations checked": f"{tally.revocations}, by {probes} requests",
        "slowest refusal": f"{replicas.slowest:.3f} s after a revocation (bound: {bound:g} s)",
        "slowest recovery": f"{outcome.slowest_recovery:.1f} s after a fault",
        "second service": f"{_counted(second.answers)}; {outcome.introspections} introspections",
        "  slowest refusal": f"{second.slowest:.3f} s after a revocation (bound: {bound:g} s)",
        "  slowest recovery": f"{there.served:.1f} s after a fault, the last 503 after "
        f"{there.last_503:.1f} s, fresh after {there.fresh:.1f} s",
        "writes found": tally.written,
        "violations": len(tally.violations),
    }
    text = "\n".join(f"{name:20} {value}" for name, value in lines.items())
    return "\n".join([text, *(f"  VIOLATION: {each}" for each in tally.violations[:20])])


def _counted(counter: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items()))


if __name__ == "__main__":
    main()
