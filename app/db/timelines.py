"""Timelines that the database went back from: what was committed there is lost.

A failover begins a new timeline. When the old primary takes over again without following it, or an
older backup takes its place, the database has gone back: a user who was disabled is enabled again,
and no process that starts now can see that. So each process that has seen the newer timeline
writes it into the database that went back. `scopegate recover` then lets all processes continue.
"""

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

FIND = "SELECT timeline, recovered_at FROM lost_timelines WHERE cluster = $1"
NOTE = """
INSERT INTO lost_timelines AS known (cluster, timeline, seen_at) VALUES ($1, $2, $3)
ON CONFLICT (cluster) DO UPDATE SET
    timeline = greatest(known.timeline, excluded.timeline),
    seen_at = greatest(known.seen_at, excluded.seen_at),
    recovered_at = CASE WHEN known.recovered_at > excluded.seen_at THEN known.recovered_at END
"""
NOTE_TIMEOUT = 1.0
"""Seconds. A primary that was replaced may wait for ever for its standby."""


class Lost(NamedTuple):
    """A timeline that the database went back from, and when an operator accepted that."""

    timeline: int
    recovered_at: datetime | None


async def find_lost(connection: Any, cluster: int) -> Lost | None:
    """Return what processes have noted of this cluster in this database."""
    row = await connection.fetchrow(FIND, cluster)
    return Lost(*row) if row else None


async def note_lost(connection: Any, cluster: int, timeline: int, *, seen_at: datetime) -> None:
    """Note that the database went back from a timeline; do nothing if it can't be written."""
    with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        async with asyncio.timeout(NOTE_TIMEOUT), connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = off")
            await connection.execute(NOTE, cluster, timeline, seen_at)
