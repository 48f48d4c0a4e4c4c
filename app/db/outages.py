"""When this process could answer no request, since the database committed nothing.

What a client could not do in that time is not held against it.
"""

import math
from collections import deque

LONGEST = 600.0
"""Seconds that an outage counts at most. A process can't know how long one lasted before it."""
REMEMBERED = 16
"""Outages: a failover that goes wrong has several, one soon after the other."""


class Outages:
    """The outages of a process, by its monotonic clock: stretches without a committed beat.

    One began before the process did: it may have been started because no process answered.
    """

    def __init__(self, *, bound: float) -> None:
        self._bound = bound
        self._over: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)
        self._last_beat: float | None = None
        """When the last beat was committed; None until this process begins to send them."""

    def begin(self) -> None:
        """Count the time until the first beat as an outage."""
        if self._last_beat is None:
            self._last_beat = -math.inf

    def end(self, moment: float) -> None:
        """Note that a beat was committed at that moment."""
        if self._last_beat is not None and moment - self._last_beat > self._bound:
            self._over.append((self._last_beat, moment))
        self._last_beat = moment

    def within(self, seconds: float, *, now: float) -> float:
        """Return how many of the last so many seconds were outages."""
        outages = [*self._over]
        if self._last_beat is not None and now - self._last_beat > self._bound:
            outages.append((self._last_beat, now))
        spent = (min(LONGEST, until - max(since, now - seconds)) for since, until in outages)
        return sum(each for each in spent if each > 0)
