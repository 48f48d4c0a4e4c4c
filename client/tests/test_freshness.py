"""Freshness: what a beat proves, whatever lies between Scopegate and this service."""

import math

from hypothesis import given
from hypothesis import strategies as st

from scopegate_client.freshness import DatabaseClock, Freshness

BOUND = 5.0
OFFSET = 86_400_000
"""Milliseconds between the two clocks: where this machine's is at 0, the database's is at this."""


def database(at: float) -> int:
    """Return what the database's clock shows at a moment of this machine's clock."""
    return OFFSET + round(at * 1000)


def clock(sent: float = 10.0, took: float = 0.02) -> DatabaseClock:
    return DatabaseClock(sent, database(sent + took))


def test_nothing_is_fresh_before_the_first_beat() -> None:
    freshness = Freshness(BOUND)
    assert not freshness.fresh(0.0)
    assert not freshness.fresh(1e9)


def test_a_beat_proves_freshness_for_the_bound_from_when_it_was_true() -> None:
    freshness = Freshness(BOUND)
    freshness.hear(database(20.0), clock(took=0.0), received=20.01)
    assert freshness.heard_up_to == 20.0
    assert freshness.fresh(24.99)
    assert not freshness.fresh(25.0)


def test_the_time_that_the_request_took_counts_against_freshness() -> None:
    freshness = Freshness(BOUND)
    freshness.hear(database(20.0), clock(took=2.0), received=20.01)
    assert freshness.heard_up_to == 18.0


def test_a_beat_that_was_held_back_proves_nothing_of_the_time_since() -> None:
    freshness = Freshness(BOUND)
    freshness.hear(database(20.0), clock(), received=26.0)
    assert not freshness.fresh(26.0)


def test_an_old_beat_that_is_repeated_proves_nothing_new() -> None:
    freshness, old = Freshness(BOUND), clock()
    freshness.hear(database(20.0), old, received=20.01)
    for moment in (21.0, 23.0, 24.9):
        freshness.hear(database(20.0), old, received=moment)
    assert not freshness.fresh(25.0)


def test_an_older_beat_after_a_newer_one_takes_nothing_back() -> None:
    freshness, same = Freshness(BOUND), clock(took=0.0)
    freshness.hear(database(20.0), same, received=20.01)
    freshness.hear(database(12.0), same, received=20.02)
    assert freshness.heard_up_to == 20.0


def test_the_future_has_not_been_heard_whatever_a_beat_says() -> None:
    freshness = Freshness(BOUND)
    freshness.hear(database(1000.0), clock(), received=20.0)
    assert not freshness.fresh(25.0)


def test_the_clock_of_the_database_is_never_read_too_early() -> None:
    shown = clock(sent=10.0, took=0.5)
    for at in (10.5, 11.0, 500.0):
        assert shown.read(at) >= database(at)
        assert shown.moment(database(at)) <= at


@given(
    took=st.floats(0, 4),
    beats=st.lists(
        # When each was true, for how long it was held back, and how often it came again, when.
        st.tuples(st.floats(0, 60), st.floats(0, 30), st.lists(st.floats(0, 60), max_size=3)),
        max_size=12,
    ),
    asked=st.lists(st.floats(0, 120), min_size=1, max_size=12),
)
def test_no_proxy_that_buffers_or_repeats_beats_makes_the_client_believe_that_it_is_fresh(
    took: float, beats: list[tuple[float, float, list[float]]], asked: list[float]
) -> None:
    """Whenever it is fresh, a beat that was true less than a bound ago has come."""
    sent = 100.0
    shown, freshness = clock(sent, took), Freshness(BOUND)
    arrivals = [
        (sent + took + at + held + again, sent + took + at)
        for at, held, repeats in beats
        for again in (0.0, *repeats)
    ]
    for moment, true_at in sorted([*arrivals, *((sent + each, math.nan) for each in asked)]):
        if not math.isnan(true_at):
            freshness.hear(database(true_at), shown, received=moment)
        elif freshness.fresh(moment):
            newest = max(true for came, true in arrivals if came <= moment)
            assert moment - newest < BOUND + 0.001, "rounded to milliseconds"
