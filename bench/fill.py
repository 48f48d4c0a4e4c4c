"""Users by the million: a Scopegate database, filled by COPY."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import asyncpg

from bench.peers.account import CREATED_AT, PASSWORD_HASH, SCOPES, USER_ID
from bench.postgres import connect
from bench.progress import say

CHUNK = 100_000
ITEM_ID = uuid.UUID("01890000-0000-7000-b000-000000000001")
FIRST_SESSION = uuid.UUID("01890000-0000-7000-a000-000000000001")
SESSION_LIFETIME = timedelta(days=30)

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Population:
    """What a database is filled with: users number 0 to `users` - 1, sessions likewise.

    Ids are counted up, as a UUIDv7 counts time up: any of them is known without asking.
    """

    users: int
    sessions: int

    def user_id(self, number: int) -> uuid.UUID:
        """The id of a user."""
        return uuid.UUID(int=USER_ID.int + number)

    def username(self, number: int) -> str:
        """The name of a user."""
        return f"user-{number}"

    def session_id(self, number: int) -> uuid.UUID:
        """The id of a session."""
        return uuid.UUID(int=FIRST_SESSION.int + number)

    def owner(self, session: int) -> int:
        """Whose session it is: they are spread over all users."""
        return session * self.users // self.sessions


async def fill(url: str, population: Population) -> None:
    """Fill a migrated, empty database, and bring its statistics up to date."""
    connection = await connect(url)
    try:
        # Neither triggers nor foreign keys: what is copied in is known to be right, and nobody
        # need hear of it.
        await connection.execute("SET session_replication_role = replica")
        await connection.execute("ALTER TABLE grants DISABLE TRIGGER grants_notify_insert")
        await connection.executemany(
            "INSERT INTO scopes (name, description) VALUES ($1, $1) ON CONFLICT DO NOTHING",
            [(scope,) for scope in SCOPES],
        )
        await _copy(connection, "users", _USERS, _users(population), population.users)
        grants = population.users * len(SCOPES)
        await _copy(connection, "grants", _GRANTS, _grants(population), grants)
        await connection.execute("ALTER TABLE grants ENABLE ALWAYS TRIGGER grants_notify_insert")
        await _copy(connection, "sessions", _SESSIONS, _sessions(population), population.sessions)
        item = (ITEM_ID, USER_ID, "Lamp", "To read by")
        await _copy(
            connection, "items", ("id", "owner_id", "title", "description"), iter([item]), 1
        )
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def _copy(
    connection: asyncpg.Connection,
    table: str,
    columns: tuple[str, ...],
    rows: Iterator[Row],
    total: int,
) -> None:
    done = 0
    while chunk := list(islice(rows, CHUNK)):
        await connection.copy_records_to_table(table, records=chunk, columns=columns)
        done += len(chunk)
        say(f"filling {table}: {done:,} of {total:,}")


_USERS = ("id", "username", "username_key", "password_hash", "created_at")


def _users(population: Population) -> Iterator[Row]:
    for number in range(population.users):
        name = population.username(number)
        yield population.user_id(number), name, name, PASSWORD_HASH, CREATED_AT


_GRANTS = ("user_id", "scope")


def _grants(population: Population) -> Iterator[Row]:
    for number in range(population.users):
        for scope in SCOPES:
            yield population.user_id(number), scope


_SESSIONS = ("id", "user_id", "epoch", "scopes", "expires_at", "idle_expires_at", "refresh_key")


def _sessions(population: Population) -> Iterator[Row]:
    end = datetime.now(UTC) + SESSION_LIFETIME
    for number in range(population.sessions):
        owner = population.user_id(population.owner(number))
        yield population.session_id(number), owner, 0, SCOPES, end, end, bytes(32)
