"""What a user, a grant, a session and an audit entry weigh in Postgres: `python -m bench.sizes`.

docs/explanation/sizing.md uses these figures. It needs no peers and takes about a minute.
"""

import asyncio
import random
from dataclasses import dataclass

import asyncpg

from app.db.work import Actor, Origin
from app.identity.candidates import Authentication
from app.identity.users import find_user
from app.runtime import Runtime
from app.tokens.issuing import password_grant
from bench.contestants import prepare_scopegate, scopegate_settings
from bench.fill import Population
from bench.postgres import connect, open_postgres
from bench.progress import say
from bench.report import table

USERS = 100_000
TABLES = ("users", "grants", "sessions", "audit_entries")
BROWSER = Actor(
    origin=Origin(
        address="203.0.113.207",
        user_agent="Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/142.0.0.0 Safari/537.36",
        request_id="0123456789abcdef0123456789abcdef",
    )
)

SLICES = 5  # a fifth of a table is what makes autovacuum come
REFRESH_SLICE = """
UPDATE sessions SET generation = generation + 1, rotated_at = now(), last_used_at = now(),
    idle_expires_at = idle_expires_at + interval '1 hour', rotated_generation = generation + 1,
    rotated_network = address, rotated_user_agent = user_agent
WHERE mod(abs(hashtext(id::text)), $1) = $2
"""


@dataclass(frozen=True)
class Size:
    """Bytes a row."""

    what: str
    rows: int
    heap: float
    indexes: float


async def measure(database: str, users: int) -> list[Size]:
    """Fill an empty database, and weigh its tables; sessions again when all were refreshed."""
    await prepare_scopegate(database, Population(users, sessions=0))
    await log_in(database)
    connection = await connect(database)
    try:
        population = Population(users, sessions=users)
        await multiply(connection, "sessions", "address IS NOT NULL", ["user_id"], population)
        login = "action = 'login.succeeded'"
        await multiply(connection, "audit_entries", login, ["actor", "subject"], population)
        await connection.execute("VACUUM ANALYZE")
        found = [await size_of(connection, name, name) for name in TABLES]
        for number in range(3 * SLICES):
            say(f"refreshing sessions: {number + 1} of {3 * SLICES}")
            await connection.execute(REFRESH_SLICE, SLICES, number % SLICES)
            await connection.execute("VACUUM ANALYZE sessions")
        return [*found, await size_of(connection, "sessions", "sessions, refreshed three times")]
    finally:
        await connection.close()


async def log_in(database: str) -> None:
    """A real login, to be multiplied."""
    async with Runtime.open(scopegate_settings(database)) as runtime:
        async with runtime.sessions() as db:
            user = await find_user(db, "user-0")
        assert user is not None
        assert user.password_hash is not None
        async with runtime.work(BROWSER, at_once=True) as work:
            await password_grant(
                work,
                runtime.issuer,
                person=Authentication(user.id, user.password_hash, at=work.now),
                client=None,
                requested=None,
            )


async def multiply(
    connection: asyncpg.Connection,
    name: str,
    which: str,
    owners: list[str],
    population: Population,
) -> None:
    """Give each user a row like that one, as logins come: users in any order, ids in time's."""
    row = dict(await connection.fetchrow(f"SELECT * FROM {name} WHERE {which}"))
    users = random.sample(range(population.users), population.users)
    await connection.copy_records_to_table(
        name,
        columns=list(row),
        records=[
            tuple(
                (
                    row
                    | {"id": population.session_id(number)}
                    | dict.fromkeys(owners, population.user_id(user))
                ).values()
            )
            for number, user in enumerate(users)
        ],
    )


async def size_of(connection: asyncpg.Connection, name: str, what: str) -> Size:
    """What a table weighs, TOAST included, and its indexes."""
    rows, heap, indexes = await connection.fetchrow(
        f"SELECT (SELECT count(*) FROM {name}), pg_table_size($1::regclass),"
        " pg_indexes_size($1::regclass)",
        name,
    )
    return Size(what, rows, heap / rows, indexes / rows)


async def main() -> None:
    """Measure and print."""
    async with open_postgres() as postgres:
        found = await measure(await postgres.create("sizes"), USERS)
    rows = [
        (size.what, f"{size.rows:,}", *(f"{part:.0f}" for part in _parts(size))) for size in found
    ]
    print(table(("a row of", "rows", "table", "indexes", "together"), rows))


def _parts(size: Size) -> tuple[float, float, float]:
    return size.heap, size.indexes, size.heap + size.indexes


if __name__ == "__main__":
    asyncio.run(main())
