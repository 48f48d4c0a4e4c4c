"""The ring: the events that were heard last, and between them how far they had been heard."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from app.db.events import Event, Mark

KEPT_EVENTS = 10_000
KEPT_FOR = 120.0
"""Seconds."""
CLEARED_AT_ONCE = 1000
"""Events that no reader gets any more, before they are taken out of memory."""


@dataclass(slots=True)
class Entry:
    """An event, and when it was heard."""

    event: Event
    heard_at: float
    """By the monotonic clock."""
    second: int
    """By the database's clock: never earlier than the commit."""
    frame: bytes | None = None
    """How streams send it, once one has."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A mark, and how many events were heard before it."""

    position: int
    mark: Mark


class Ring:
    """Events are numbered as they are heard; a reader's position is the next one that it reads.

    Times of the database are in milliseconds. `margin` is by how much two servers' clocks may
    differ, where one replaces the other.
    """

    def __init__(self, *, margin: int) -> None:
        # A list, of which the first ones are dropped: from a deque's middle reading is slow.
        self._entries: list[Entry] = []
        self._dropped = 0
        self._places: deque[_Place] = deque()
        self._margin = margin
        self._joins_from: int | None = None
        """The earliest point to resume from; None until a mark tells the time."""
        self.mark: Mark | None = None
        """The last one since the last gap."""
        self.marked = 0
        """The position after all events that were heard before it."""
        self.start = 0
        """The position of the oldest event that is kept."""

    @property
    def end(self) -> int:
        """The position after the newest event."""
        return self.start + len(self)

    def __len__(self) -> int:
        return len(self._entries) - self._dropped

    def append(self, entry: Entry) -> None:
        """Add an event that was just heard, and drop what is too old or too much."""
        self._entries.append(entry)
        if len(self) > KEPT_EVENTS:
            self._drop()
        self._drop_older(entry.heard_at - KEPT_FOR)

    def note(self, mark: Mark, *, heard_at: float) -> None:
        """Note how far all that was heard goes."""
        if self._joins_from is None:
            # The server before this one may have had a clock that was ahead. Its clients come back
            # with its times, which mean an earlier moment here.
            self._joins_from = mark.until + self._margin
        self.mark, self.marked = mark, self.end
        self._places.append(_Place(self.end, mark))
        self._drop_older(heard_at - KEPT_FOR)

    def clear(self) -> None:
        """Begin anew after a gap: no reader's position is in the ring any more."""
        self.start = self.end + 1
        self._entries, self._dropped = [], 0
        self._places.clear()
        self.mark = self._joins_from = None

    def resume(self, through: int) -> tuple[int, int] | None:
        """Return where a reader goes on that has all changes committed before `through`.

        And the time since when it then misses none, which is no later. None: the ring does not go
        back so far.
        """
        if self._joins_from is None or through < self._joins_from:
            return None
        # All that was heard before such a mark was committed before `through`.
        for place in reversed(self._places):
            if place.mark.until <= through:
                return place.position, place.mark.until
        return None

    def read(self, position: int, *, most: int) -> Sequence[Entry]:
        """Return the events from a position in the ring on."""
        first = self._dropped + max(0, position - self.start)
        return self._entries[first : first + most]

    def _drop_older(self, moment: float) -> None:
        while len(self) and self._entries[self._dropped].heard_at < moment:
            self._drop()
        while self._places and self._places[0].mark.heard_up_to < moment:
            self._places.popleft()

    def _drop(self) -> None:
        self._dropped += 1
        self.start += 1
        if self._dropped >= CLEARED_AT_ONCE:
            del self._entries[: self._dropped]
            self._dropped = 0
        while self._places and self._places[0].position < self.start:
            self._places.popleft()
