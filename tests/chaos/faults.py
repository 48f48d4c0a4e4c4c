"""What befalls the service: its connections, its Postgres, its replicas and their clocks."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncpg

from tests.chaos.stage import Stage
from tests.chaos.way_faults import WAY_FAULTS


async def feed_cut(stage: Stage) -> None:
    """Every replica's connections of the change feed are cut."""
    await _execute(stage, TERMINATE, "scopegate changes", 100)


async def connection_cut(stage: Stage) -> None:
    """Some of the requests' connections are cut, whatever runs on them."""
    await _execute(stage, TERMINATE, "scopegate", stage.chance.randint(1, 10))


async def backend_killed(stage: Stage) -> None:
    """`kill -9` of one backend: Postgres ends all others and recovers."""
    database = await stage.database()
    pids = [row["pid"] for row in await database.fetch(OURS)]
    await database.close()
    if pids:
        with suppress(ProcessLookupError):
            os.kill(stage.chance.choice(pids), signal.SIGKILL)


async def feed_stopped(stage: Stage) -> None:
    """A backend of the feed is stopped for a while: its connection stays open, and silent."""
    database = await stage.database()
    pids = [row["pid"] for row in await database.fetch(OURS + " AND application_name LIKE '% %'")]
    await database.close()
    if pids:
        pid = stage.chance.choice(pids)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(stage.chance.uniform(0.2, 2))
            os.kill(pid, signal.SIGCONT)


async def postgres_restarted(stage: Stage) -> None:
    """A fast shutdown, and a start."""
    await stage.postgres.stop()
    await stage.postgres.resume()


async def postgres_crashed(stage: Stage) -> None:
    """An immediate shutdown, and a start after a while."""
    await stage.postgres.stop(immediately=True)
    await asyncio.sleep(stage.chance.uniform(0, 0.5))
    await stage.postgres.resume()


async def postgres_stalled(stage: Stage) -> None:
    """All of Postgres stands still for a while, and no connection breaks."""
    stage.postgres.stall()
    try:
        await asyncio.sleep(stage.chance.uniform(0.2, 2))
    finally:
        stage.postgres.go_on()


async def replica_killed(stage: Stage) -> None:
    """`kill -9` of a replica, and a start."""
    replica = stage.chance.choice(stage.replicas)
    await replica.kill()
    await replica.start()


async def clock_moved(stage: Stage) -> None:
    """A replica is killed and starts again under a clock that is minutes or days off."""
    replica = stage.chance.choice(stage.replicas)
    await replica.kill()
    await replica.start(clock_off_by=stage.chance.choice((-1, 1)) * stage.chance.uniform(60, 1e6))


async def tables_locked(stage: Stage) -> None:
    """A transaction keeps a table from everybody: all connections wait for it."""
    database = await stage.database()
    table = stage.chance.choice(("users", "sessions", "grants", "audit_entries"))
    async with database.transaction():
        await database.execute(f"LOCK TABLE {table}")
        await asyncio.sleep(stage.chance.uniform(0.2, 2))
    await database.close()


async def connections_taken(stage: Stage) -> None:
    """Others take every connection that Postgres has left, and ours are cut."""
    taken: list[asyncpg.Connection] = []
    try:
        database = await stage.database()
        taken.append(database)
        with suppress(asyncpg.PostgresError):
            while len(taken) < 200:
                taken.append(await stage.database())
        await database.execute(TERMINATE, "scopegate%", 100)
        with suppress(asyncpg.PostgresError):
            while len(taken) < 200:
                taken.append(await stage.database())
        await asyncio.sleep(stage.chance.uniform(0.1, 1))
    finally:
        for connection in taken:
            connection.terminate()


async def fenced_switchover(stage: Stage) -> None:
    """The standby is promoted; the old primary stays up for a while, and takes no writes."""
    await _switch_over(stage, fenced=True)


async def unfenced_switchover(stage: Stage) -> None:
    """The standby is promoted; the old primary stays up, and would take writes."""
    await _switch_over(stage, fenced=False)


async def triggers_disabled(stage: Stage) -> None:
    """The triggers of a table are off for a while, or for a moment."""
    database = await stage.database()
    table = stage.chance.choice(("users", "sessions", "grants"))
    try:
        await database.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        await asyncio.sleep(stage.chance.choice((0, 0.2, 2)))
    finally:
        await _enable_triggers(database)
        await database.close()


async def _enable_triggers(database: asyncpg.Connection) -> None:
    """Have all triggers as they must be, however often the people at work are in the way."""
    while True:
        try:
            await database.execute(ALWAYS_AGAIN)
        except asyncpg.DeadlockDetectedError:
            continue
        return


async def mass_sessions(stage: Stage) -> None:
    """A person has ten thousand live sessions more."""
    database = await stage.database()
    await database.execute(MANY_SESSIONS, 10_000)
    await database.close()


FAULTS: dict[str, Callable[[Stage], Awaitable[None]]] = WAY_FAULTS | {
    fault.__name__.replace("_", " "): fault
    for fault in (
        feed_cut,
        connection_cut,
        backend_killed,
        feed_stopped,
        postgres_restarted,
        postgres_crashed,
        postgres_stalled,
        replica_killed,
        clock_moved,
        tables_locked,
        connections_taken,
        fenced_switchover,
        unfenced_switchover,
        triggers_disabled,
        mass_sessions,
    )
}

OURS = (
    "SELECT pid FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name LIKE 'scopegate%'"
)
TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name LIKE $1 ORDER BY random() LIMIT $2)"
)

ALWAYS_AGAIN = """
DO $$
DECLARE each record;
BEGIN
    FOR each IN
        SELECT tgrelid::regclass AS owner, tgname FROM pg_trigger WHERE NOT tgisinternal
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', each.owner, each.tgname);
    END LOOP;
END $$
"""
MANY_SESSIONS = """
INSERT INTO sessions (id, user_id, scopes, expires_at, idle_expires_at, refresh_key)
SELECT gen_random_uuid(), user_id, '{}', now() + interval '1 h', now() + interval '1 h', '\\x00'
FROM (SELECT user_id FROM grants WHERE scope <> 'admin' ORDER BY random() LIMIT 1) AS one,
    generate_series(1, $1)
"""


async def _switch_over(stage: Stage, *, fenced: bool) -> None:
    await stage.postgres.promote(fenced=fenced)
    try:
        await asyncio.sleep(stage.chance.uniform(0, 4))
    finally:
        await stage.postgres.rebuild_standby()


async def _execute(stage: Stage, statement: str, *values: object) -> None:
    database = await stage.database()
    await database.execute(statement, *values)
    await database.close()
