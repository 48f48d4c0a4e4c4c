"""A short chaos; `make chaos` goes on for as long as one likes."""

from tests.chaos.rounds import run_rounds

# Those that take no second to cause; `make chaos` draws from all.
FAULTS = ["feed cut", "connection cut", "backend killed", "postgres crashed"]
ROUNDS = 5


async def test_through_random_faults_nothing_is_lost_let_in_or_answered_by_a_500() -> None:
    """And after each, every kind of request is served again."""
    outcome = await run_rounds(ROUNDS, seed=7, faults=FAULTS)
    assert not outcome.tally.violations
    assert outcome.rounds == ROUNDS
    assert outcome.tally.revocations > 0
    assert outcome.tally.written > 0
    assert outcome.tally.answers["503"] + outcome.tally.answers["no answer"], "faults are real"
