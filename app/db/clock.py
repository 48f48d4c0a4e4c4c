"""The database's clock, without a query each time.

Replicas must agree on what has expired, and their machines' clocks need not. So no decision here is
made by a machine's wall clock: the time is the database's when it was last asked, plus what a clock
that only ever runs forward has counted since.
"""

import math
import time
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

DRIFT = 1e-3
"""How much two clocks are taken to part, in seconds a second: twice what NTP's slewing may do."""

# Python's monotonic clock stands still on Linux while the machine sleeps; this one does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def monotonic() -> float:
    """Return the seconds on a clock that only runs forward, also while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


class DatabaseClock:
    """Call it for the time. It is never ahead of the database's, and behind by little.

    By no more than the round trip in which it was set, so no token says that it was issued later
    than it was.
    """

    def __init__(self) -> None:
        self._epoch = time.time() - monotonic()
        """What the database's clock is ahead of `monotonic`, at the least."""
        self._error = math.inf
        """How much more it may be."""
        self._set_at = -math.inf
        self._distrusted = True

    def __call__(self) -> datetime:
        """The time now; by this machine's clock only as long as the database was never asked."""
        return datetime.fromtimestamp(self._epoch + monotonic(), UTC)

    def latest(self) -> float:
        """Return what the time is at the most, in seconds since the epoch."""
        now = monotonic()
        return self._epoch + now + self._error_at(now)

    def sync(self, server_time: datetime, *, sent: float, received: float) -> bool:
        """Set the clock to the time that the database returned between two moments of `monotonic`.

        An answer that took so long that the clock is more exact already is ignored. Return False
        when the answer contradicts the clock: the database's was set, or is another server's.
        """
        epoch, error, known = server_time.timestamp() - received, received - sent, self._set_at
        before = self._error_at(received)
        agrees = epoch <= self._epoch + before and epoch + error >= self._epoch - DRIFT * (
            received - known
        )
        if error <= before or self._distrusted or not agrees:
            self._epoch, self._error, self._set_at = epoch, error, received
            self._distrusted = False
        return agrees

    def reset(self) -> None:
        """Adopt the next answer, however long it takes: it may be another server's."""
        self._distrusted = True

    def _error_at(self, moment: float) -> float:
        return self._error + DRIFT * (moment - self._set_at)


async def set_clock(clock: DatabaseClock, connection: AsyncConnection) -> None:
    """Set the clock with one query."""
    sent = monotonic()
    server_time = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
    clock.sync(server_time, sent=sent, received=monotonic())
