"""Servers: what one says of itself, and why it is not the one that takes the writes."""

from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from app.db.timelines import Lost, find_lost

IDENTITY_NOT_SUPPORTED = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.UndefinedFunctionError,
)
"""Errors of a Postgres that has its own kind of replication and does not tell its timeline."""
# A promotion begins a new timeline. A standby refuses `pg_current_wal_lsn`. The table of lost
# timelines is read where it is there yet, and the role may.
REST = """
    pg_postmaster_start_time(), current_setting('transaction_read_only')::bool, clock_timestamp(),
    has_table_privilege(to_regclass('lost_timelines'), 'SELECT')
"""
IDENTIFY_MINIMAL = "SELECT 0, 0," + REST
IDENTIFY = (
    """
SELECT system_identifier, CASE WHEN NOT pg_is_in_recovery() THEN
        ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint END,
"""
    + REST
    + "FROM pg_control_system()"
)


class Server(NamedTuple):
    """One running server: the cluster it belongs to, its timeline, and when it was started.

    Servers of one cluster are ordered by timeline. The start tells two servers apart that were
    promoted to the same timeline, or that do not tell their cluster and timeline (0 and 0).
    """

    cluster: int
    timeline: int
    started: datetime


class Answer(NamedTuple):
    """What a server says of itself: which it is, its time, and what was noted in its database."""

    server: Server
    server_time: datetime
    lost: Lost | None


class ServerReplaced(ConnectionError):
    """Another server was promoted in this one's place, and what that committed is not here."""

    def __init__(self, newer: int) -> None:
        super().__init__(
            "the only server that takes writes lacks what was committed on a newer timeline, "
            f"{newer}: bring back the server that has it; if it is gone for good, do not just "
            "restart, but run scopegate recover"
        )


class TakesNoWrites(ConnectionError):
    """The server is a standby, or read-only."""

    def __init__(self) -> None:
        super().__init__("the server takes no writes, as a standby does: lead to the primary")


async def identify(connection: Any, query: str) -> Answer:
    """Ask a server which it is, by `IDENTIFY` or `IDENTIFY_MINIMAL`.

    Raises TakesNoWrites, or an error of `IDENTITY_NOT_SUPPORTED`.
    """
    # In a transaction, because a pooler may change the server between two of them.
    async with connection.transaction():
        row = await connection.fetchrow(query)
        cluster, timeline, started, read_only, server_time, may_find = row
        if read_only:
            raise TakesNoWrites
        lost = await find_lost(connection, cluster) if may_find else None
    return Answer(Server(cluster, timeline, started), server_time, lost)
