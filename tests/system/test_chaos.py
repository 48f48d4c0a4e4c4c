"""A short chaos; `make chaos` goes on for as long as one likes."""

from tests.chaos.rounds import run_rounds
from tests.chaos.way_faults import WAY_FAULTS

# Those that take no second to cause; `make chaos` causes all. And each that befalls the second
# service, once.
FAULTS = ["feed cut", "connection cut", "backend killed", "postgres crashed", *WAY_FAULTS]


async def test_through_random_faults_nothing_is_lost_let_in_or_answered_by_a_500() -> None:
    """By the replicas, and by a second service. After each, every kind of request is served."""
    outcome = await run_rounds(len(FAULTS), seed=7, faults=FAULTS)
    tally = outcome.tally
    assert not tally.violations
    assert outcome.rounds == len(FAULTS)
    assert tally.revocations > 0
    assert tally.written > 0
    for asked in (tally.replicas, tally.second):
        assert asked.answers["503"], "faults are real"
        assert asked.answers["no answer"], "processes were killed"
        assert asked.answers["200"]
        assert asked.probes > tally.revocations
