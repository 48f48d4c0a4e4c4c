"""Events: what happened, and to whom. The triggers say it on a channel of their own (0012).

A change says what may not be remembered any more; an event says why. Both come from the same
transaction, in the order of the commits.
"""

import uuid
from dataclasses import dataclass
from typing import Protocol

EVENT_CHANNEL = "scopegate_events"

ABOUT: dict[str, set[int]] = {
    "session-revoked": {1, 2},
    "account-disabled": {1},
    "account-enabled": {1},
    "account-purged": {1},
    "grants-changed": {1, 2},
    "token-revoked": {1},
    "scopes-changed": {0},
    "keys-changed": {0},
}
"""How many ids each type has: 1 for a user or a token, 2 for a user's session."""
CLIENT_CHANGED = "client-changed"
"""The type that has a client's id, which is text, in place of others."""


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, and the ids of what it happened to: a user, their session, or a token."""

    type: str
    ids: tuple[uuid.UUID, ...] = ()
    client_id: str | None = None
    """What it happened to, if it is a client."""


EVERYTHING = Event("everything")


def parse_event(payload: str) -> Event:
    """Return the event that a notification names; EVERYTHING if it is not understood."""
    kind, *ids = payload.split(" ")
    if kind == CLIENT_CHANGED and len(ids) == 1:
        return Event(kind, client_id=ids[0])
    try:
        event = Event(kind, tuple(map(uuid.UUID, ids)))
    except ValueError:
        return EVERYTHING
    return event if len(ids) in ABOUT.get(kind, ()) else EVERYTHING


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the events have been heard, by the database's clock: milliseconds since the epoch."""

    through: int
    """Every change that was committed before it has been heard."""
    until: int
    """Every change that has been heard was committed before it."""
    heard_up_to: float
    """The moment of `through`, in seconds by the monotonic clock."""


class Follower(Protocol):
    """Follows the events in the order of the commits."""

    def on_event(self, event: Event) -> None:
        """Take note of an event that was just heard."""

    def on_mark(self, mark: Mark) -> None:
        """Take note of how far the events have been heard. Marks come between the events."""

    def on_gap(self) -> None:
        """Take note that events may have been missed: those before and after don't join."""

    def on_clock_change(self) -> None:
        """Take note that the database's clock was set, or is another server's."""
