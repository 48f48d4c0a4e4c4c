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
    """Call it for the time. It is off by at most half the round trip in which it was set."""

    def __init__(self) -> None:
        self._epoch = time.time() - monotonic()
        self._error = math.inf
        self._set_at = -math.inf

    def __call__(self) -> datetime:
        """The time now; by this machine's clock only as long as the database was never asked."""
        return datetime.fromtimestamp(self._epoch + monotonic(), UTC)

    def sync(self, server_time: datetime, *, sent: float, received: float) -> None:
        """Set the clock to the time that the database returned between two moments of `monotonic`.

        An answer that took so long that the clock is more exact already is ignored.
        """
        error = (received - sent) / 2
        if error <= self._error + DRIFT * (received - self._set_at):
            self._epoch = server_time.timestamp() - (sent + received) / 2
            self._error = error
            self._set_at = received

    def reset(self) -> None:
        """Adopt the next answer, however long it takes: it may be another server's."""
        self._error = math.inf


async def set_clock(clock: DatabaseClock, connection: AsyncConnection) -> None:
    """Set the clock with one query."""
    sent = monotonic()
    server_time = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
    clock.sync(server_time, sent=sent, received=monotonic())
