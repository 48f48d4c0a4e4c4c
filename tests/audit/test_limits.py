"""The bound on audit entries: what is written, what is counted, and what is remembered for it."""

from datetime import UTC, datetime, timedelta

from app.audit.limits import ENTRIES, KEYS, PERIOD, EntryLimit

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_the_first_entries_of_a_period_are_written_and_the_next_counts_the_others() -> None:
    limit = EntryLimit()
    admitted = [limit.admit("a", now=NOW) for _ in range(ENTRIES + 3)]
    assert admitted == [0] * ENTRIES + [None] * 3
    almost = NOW + PERIOD - timedelta(microseconds=1)
    assert limit.admit("a", now=almost) is None
    assert limit.admit("b", now=almost) == 0, "each key by itself"
    later = [limit.admit("a", now=NOW + PERIOD) for _ in range(ENTRIES + 1)]
    assert later == [4] + [0] * (ENTRIES - 1) + [None]
    assert limit.left_out == 5


def test_however_many_keys_there_are_a_bounded_number_is_remembered() -> None:
    limit = EntryLimit()
    for _ in range(ENTRIES + 1):
        limit.admit("first", now=NOW)
    for number in range(KEYS - 1):
        limit.admit(number, now=NOW)
    assert limit.admit("first", now=NOW) is None
    for number in range(KEYS, 3 * KEYS):
        limit.admit(number, now=NOW)
    assert len(limit) == KEYS
    assert limit.admit("first", now=NOW) == 0, "forgotten, so its period starts anew"
    assert limit.left_out == 2, "what was left out stays counted"
