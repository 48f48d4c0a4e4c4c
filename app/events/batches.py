"""Batches: events as streams send them. Streams that keep up send the same ones, made once."""

import uuid
from dataclasses import dataclass

from app.events import frames
from app.events.ring import Entry, Ring

AT_ONCE = 50
"""Events that are written at once."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that follow each other."""

    start: int
    """The position of the first."""
    end: int
    frames: bytes
    ids: frozenset[uuid.UUID]
    """What they are about."""
    about_all: bool
    """Whether one of them may concern every token."""

    def concerns(self, own: frozenset[uuid.UUID]) -> bool:
        """Return whether an event may concern the caller whose ids these are."""
        return self.about_all or not own.isdisjoint(self.ids)


class Batches:
    """The batches of one ring."""

    def __init__(self, ring: Ring, *, issuer: str) -> None:
        self._ring = ring
        self._issuer = issuer
        self._last = Batch(0, 0, b"", frozenset(), about_all=False)
        self._shown = 0

    def show(self) -> None:
        """Let streams send all that was heard so far: so those that keep up send the same."""
        self._shown = self._ring.end

    def render(self, entry: Entry) -> bytes:
        """Return the frame of an event. It is made once."""
        if entry.frame is None:
            entry.frame = frames.security_event(entry, issuer=self._issuer)
        return entry.frame

    def read(self, position: int) -> Batch:
        """Return the events from a position in the ring on, AT_ONCE at most."""
        end = max(position, min(self._shown, position + AT_ONCE))
        if (self._last.start, self._last.end) != (position, end):
            self._last = self._make(position, end)
        return self._last

    def _make(self, position: int, end: int) -> Batch:
        entries = self._ring.read(position, most=end - position)
        return Batch(
            position,
            end,
            b"".join(map(self.render, entries)),
            frozenset(each for entry in entries for each in entry.event.ids),
            about_all=not all(entry.event.ids for entry in entries),
        )
