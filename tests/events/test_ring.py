"""Ring and streams by themselves: whatever happens in which order, nothing is missed unsaid.

A model of the database decides: its commits have a time and one order, in which each replica hears
of them, later and by pieces.
"""

import uuid
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.db.events import Event, Mark
from app.events import batches as batches_module
from app.events import ring as ring_module
from app.events import streams as streams_module
from app.events.batches import Batches
from app.events.ring import Entry, Ring
from app.events.streams import Stream, Streams


@dataclass
class Commit:
    """A commit with its time: of an event, or of a replica's beat, which read its time before."""

    at: int
    event: Event | None = None
    sender: int = -1
    through: int = 0


@dataclass
class Followed:
    """A stream, and all that was sent on it: events, `everything` with its time, beats."""

    stream: Stream
    since: int
    sent: set[int] = field(default_factory=set)
    forgot_at: int = -1
    through: int = 0


class World:
    """The database, two replicas, and who follows them."""

    def __init__(self) -> None:
        self.now = 100
        self.log: list[Commit] = []
        self.begun: dict[int, Commit] = {}
        """Beats that have read the time and are not committed yet, by their replicas."""
        self.rings = [Ring(margin=0) for _ in range(2)]
        self.heard = [0, 0]
        self.followed: list[Followed] = []
        self.throughs = [0]

    def commit(self, later: int) -> None:
        self.now += later
        number = len(self.log)
        self.log.append(Commit(self.now, Event("account-enabled", (uuid.UUID(int=number),))))

    def beat(self, replica: int, later: int) -> None:
        """A beat reads the time, or commits; what others commit in between is heard before it."""
        self.now += later
        beat = self.begun.pop(replica, None)
        if beat is None:
            self.begun[replica] = Commit(0, None, replica, self.now - later)
        else:
            beat.at = self.now
            self.log.append(beat)

    def round(self, replica: int, between: int) -> None:
        """A whole beat, with commits between its two moments; all hear of it and read."""
        self.beat(replica, 1)
        for _ in range(between):
            self.commit(1)
        self.beat(replica, 1)
        self.catch_up()

    def hear(self, replica: int, number: int, later: int) -> None:
        self.now += later
        ring = self.rings[replica]
        for commit in self.log[self.heard[replica] : self.heard[replica] + number]:
            self.heard[replica] += 1
            if commit.event:
                ring.append(Entry(commit.event, self.now / 1000, 0))
            elif commit.sender == replica:
                # Later than now by as much as a clock may be wrong.
                mark = Mark(commit.through, self.now + 1, self.now / 1000)
                ring.note(mark, heard_at=self.now / 1000)

    def lose(self, replica: int) -> None:
        """The feed is lost, and a new one begins with what is committed next."""
        self.rings[replica].clear()
        self.heard[replica] = len(self.log)

    def open(self, replica: int, through: int | None) -> None:
        ring = self.rings[replica]
        resumed = None if through is None else ring.resume(through)
        batches = Batches(ring, issuer="https://auth.example")
        streams = cast(Streams, SimpleNamespace(ring=ring, batches=batches, overflows=0))
        stream = Stream(streams, resumed)
        self.now += 1
        if resumed is None:
            self.followed.append(Followed(stream, self.now))
        else:
            assert through is not None
            assert resumed[1] <= through
            self.followed.append(Followed(stream, resumed[1]))

    def read(self, followed: Followed) -> bool:
        followed.stream._streams.batches.show()
        found, through = followed.stream._read()
        if found is None:
            followed.forgot_at = self.now
            return True
        followed.sent |= {each.int for each in found.ids}
        if through is not None:
            followed.through = through
            self.throughs.append(through)
            self.require(followed, before=through)
        return bool(found.frames or through)

    def require(self, followed: Followed, *, before: int) -> None:
        """Nothing that was committed since and before is missing, or may still be remembered."""
        for number, commit in enumerate(self.log):
            if commit.event and followed.since <= commit.at < before:
                assert number in followed.sent or commit.at <= followed.forgot_at

    def catch_up(self) -> None:
        for replica in range(2):
            self.hear(replica, len(self.log), 0)
        for followed in self.followed:
            self.read(followed)

    def finish(self) -> None:
        self.catch_up()
        for followed in self.followed:
            while self.read(followed):
                pass
            self.require(followed, before=self.now + 1)


replicas, laters = st.integers(0, 1), st.integers(0, 2)
COMMIT = st.tuples(st.just("commit"), laters)
BEAT = st.tuples(st.just("beat"), replicas, laters)
HEAR = st.tuples(st.just("hear"), replicas, st.integers(1, 3), laters)
OPEN = st.tuples(st.just("open"), replicas)
RESUME = st.tuples(st.just("resume"), replicas, st.integers(1, 3))
READ = st.tuples(st.just("read"), st.integers(1, 3))
CATCH_UP = st.just(("catch_up",))
ROUND = st.tuples(st.just("round"), replicas, laters)
LOSE = st.tuples(st.just("lose"), replicas)
ACTS = st.one_of(
    *[COMMIT] * 4, *[ROUND] * 4, *[BEAT] * 4, *[RESUME] * 4, *[CATCH_UP] * 2, HEAR, OPEN, READ, LOSE
)
"""The newest streams and points to resume from are chosen, by how many are newer."""


@settings(max_examples=200, deadline=None)
@given(st.lists(ACTS, min_size=30, max_size=100))
def test_whatever_happens_nothing_is_missed_between_two_points_to_resume_from(
    acts: list[tuple[Any, ...]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ring_module, "KEPT_EVENTS", 12)
        patch.setattr(streams_module, "MAX_BEHIND", 6)
        patch.setattr(batches_module, "AT_ONCE", 2)
        patch.setattr(ring_module, "CLEARED_AT_ONCE", 3)
        world = World()
        world.open(0, None)
        for name, *numbers in acts:
            match name:
                case "open":
                    world.open(numbers[0], None)
                case "resume":
                    replica, newest = numbers
                    world.open(replica, world.throughs[-min(newest, len(world.throughs))])
                case "read":
                    if world.followed:
                        world.read(world.followed[-min(numbers[0], len(world.followed))])
                case _:
                    getattr(world, name)(*numbers)
        world.finish()


def entry(second: float) -> Entry:
    return Entry(Event("account-enabled", (uuid.uuid4(),)), second, 0)


def test_a_ring_keeps_ten_thousand_events_of_two_minutes() -> None:
    ring = Ring(margin=0)
    for _ in range(10_001):
        ring.append(entry(0.0))
    assert (ring.start, ring.end) == (1, 10_001)
    ring.append(entry(119.0))
    assert ring.end - ring.start == 10_000
    ring.append(entry(121.0))
    assert ring.end - ring.start == 2, "what is older than two minutes has gone"


def test_where_an_event_has_gone_no_stream_goes_on_before_it() -> None:
    ring = Ring(margin=0)
    ring.note(Mark(1000, 1000, 1.0), heard_at=1.0)
    for _ in range(10_000):
        ring.append(entry(1.0))
    assert ring.resume(1000) == (0, 1000)
    ring.append(entry(1.0))
    assert ring.resume(1000) is None
    assert ring.mark is not None, "what it proves of the events that followed still holds"


def test_a_ring_grows_no_older_by_beats_alone() -> None:
    ring = Ring(margin=0)
    for second in range(1000):
        ring.note(Mark(second, second, second), heard_at=second)
    assert len(ring._places) <= 121
    assert ring.mark == Mark(999, 999, 999)


def test_after_a_gap_times_are_trusted_only_past_the_margin_of_clocks() -> None:
    """A client may come with a time by the server before, whose clock was ahead."""
    ring = Ring(margin=5000)
    ring.note(Mark(1000, 1001, 1.0), heard_at=1.0)
    ring.append(entry(2.0))
    ring.note(Mark(9000, 9001, 9.0), heard_at=9.0)
    assert ring.resume(6000) is None
    assert ring.resume(6001) == (0, 1001)
    assert ring.resume(9001) == (1, 9001)
    ring.clear()
    assert ring.resume(9001) is None
