"""A beat of the change feed: a notification that proves what was heard, and that writes succeed."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.db.clock import monotonic
from app.db.primary import UNREACHABLE
from app.db.triggers import TABLES, TRIGGER_QUERY, Triggers, judge

CLOSE_WITHIN = 0.1
"""The part of a beat's time in which its connection is closed politely."""
# If commits wait for a synchronous standby, the beat must wait too. It writes a message to the WAL,
# because a commit that wrote nothing never waits. Otherwise it does not even wait for the disk. The
# setting is for this transaction only, because behind a pooler the connection is shared.
BEAT = """
SELECT clock_timestamp(), pg_notification_queue_usage(), waits,
    CASE WHEN waits THEN pg_logical_emit_message(true, 'scopegate', '')::text
        ELSE set_config('synchronous_commit', 'off', true) END,
    pg_notify($1, $2)
FROM (SELECT current_setting('synchronous_standby_names') <> ''
    AND current_setting('synchronous_commit') NOT IN ('off', 'local') AS waits) AS commits
"""


class NoStandby(ConnectionError):
    """Commits wait for a synchronous standby, and none confirms them."""

    def __init__(self) -> None:
        super().__init__("commits wait for a synchronous standby that does not confirm them")


@dataclass(frozen=True, slots=True)
class Beat:
    """A beat that was committed, and what the database said with it."""

    sent_at: float
    answered_at: float
    now: datetime
    """The database's time between these two."""
    queue_usage: float
    """How full Postgres' queue of notifications is, from 0 to 1."""
    triggers: Triggers


async def send_beat(connection: Any, channel: str, payload: str, *, seconds: float) -> Beat:
    """Send a beat within so many seconds, and close the connection.

    Raises an error of `UNREACHABLE`: NoStandby when the commit was not confirmed in time. Then the
    beat may still be heard.
    """
    waits = False
    try:
        async with asyncio.timeout(seconds), connection.transaction():
            triggers = judge(await connection.fetch(TRIGGER_QUERY, TABLES))
            sent_at = monotonic()
            now, usage, waits, *_ = await connection.fetchrow(BEAT, channel, payload)
            answered_at = monotonic()
    except TimeoutError as error:
        raise (NoStandby() if waits else error) from None
    finally:
        # Close politely, also after a timeout: otherwise Postgres keeps waiting for its standby.
        with suppress(*UNREACHABLE):
            await connection.close(timeout=CLOSE_WITHIN * seconds)
    return Beat(sent_at, answered_at, now, usage, triggers)
