"""What time is left out, since this process could answer nobody."""

import pytest

from app.db.outages import LONGEST, REMEMBERED, Outages

BOUND = 5.0


def outages(*beats: float, began: bool = True) -> Outages:
    """What a process knows that has committed beats at these moments."""
    found = Outages(bound=BOUND)
    if began:
        found.begin()
    for moment in beats:
        found.end(moment)
    return found


@pytest.mark.parametrize(
    ("beats", "seconds", "now", "expected"),
    [
        ((1000.0, 1002.0, 1004.0), 4.0, 1004.0, 0.0),
        ((1000.0, 1002.0, 1030.0), 30.0, 1031.0, 28.0),
        ((1000.0, 1002.0, 1030.0), 20.0, 1031.0, 19.0),
        ((1000.0, 1002.0, 1030.0), 1.0, 1031.0, 0.0),
        ((1000.0, 1010.0, 1012.0, 1022.0), 22.0, 1022.0, 20.0),
        ((1000.0, 1002.0), 30.0, 1030.0, 28.0),
        ((1000.0,), 60.0, 1000.0, 60.0),
        ((1000.0,), 10_000.0, 1000.0, LONGEST),
        ((), 60.0, 1000.0, 60.0),
    ],
    ids=[
        *("none", "all of one", "the end of one", "one before", "two", "one that lasts"),
        *("a start", "a start long ago", "no beat yet"),
    ],
)
def test_only_stretches_without_a_beat_are_left_out(
    beats: tuple[float, ...], seconds: float, now: float, expected: float
) -> None:
    assert outages(*beats).within(seconds, now=now) == expected


def test_a_process_that_sends_no_beats_knows_of_no_outage() -> None:
    assert outages(began=False).within(60, now=1000) == 0
    assert outages(1000, began=False).within(60, now=1000) == 0


def test_so_many_outages_are_remembered_and_no_more() -> None:
    found = outages(*(1000 + 10.0 * number for number in range(REMEMBERED + 10)))
    assert found.within(600, now=1000 + 10 * (REMEMBERED + 9)) == 10 * REMEMBERED
