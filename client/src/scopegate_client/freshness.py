"""Freshness: up to when everything has been heard. Pure: the caller reads the clock.

`at`, `sent` and `received` are seconds of this machine's monotonic clock. `now` and `through` are
milliseconds of the database's clock. This machine's clock for the time of day is never asked.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DatabaseClock:
    """The database's clock, as one request for a stream has shown it.

    The database said `now` after the request was sent. So this clock is never behind the
    database's, and ahead of it by the time that the request took, at most.
    """

    sent: float
    now: int

    def read(self, at: float) -> float:
        """Return what the database's clock shows at this moment, at most."""
        return self.now + (at - self.sent) * 1000

    def moment(self, milliseconds: int) -> float:
        """Return a moment at which the database's clock had not gone past this time."""
        return self.sent + (milliseconds - self.now) / 1000


class Freshness:
    """Whether each change that was committed more than `bound` seconds ago has been heard."""

    def __init__(self, bound: float) -> None:
        self.bound = bound
        self.heard_up_to = -math.inf
        """Each change that was committed before this moment has been heard."""

    def hear(self, through: int, clock: DatabaseClock, *, received: float) -> None:
        """Take note of a beat: each change before `through` came before it.

        A beat that was held back, or is repeated, names a moment of the past: it proves nothing
        new. The future has not been heard, whatever a beat says.
        """
        self.heard_up_to = max(self.heard_up_to, min(clock.moment(through), received))

    def fresh(self, at: float) -> bool:
        """Return whether what was heard may be relied on."""
        return at - self.heard_up_to < self.bound
