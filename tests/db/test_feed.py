"""The change feed: trusted only while it hears everything."""

import logging
import os
import shutil
import signal
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import func, select, text

from app.db.changes import EVERYTHING, Change
from app.db.clock import monotonic
from app.db.events import Event, Mark
from app.db.listener import Listener, Listeners
from app.runtime import Runtime
from tests.conftest import client_of, following, running, settings_for
from tests.support.factories import Someone, bearer, make_user
from tests.support.faults import OwnPostgres, pgbouncer_before, proxy_to
from tests.support.feeds import BOUND, FEEDS, feed_of, heard_by, terminate_feeds
from tests.support.postgres_programs import libpq_url
from tests.support.processes import until
from tests.support.statements import execute


class HeardEvents:
    """Notes what events are about, and gaps as None."""

    def __init__(self) -> None:
        self.heard: list[uuid.UUID | None] = []
        self.marks: list[Mark] = []

    def on_event(self, event: Event) -> None:
        self.heard.append(event.ids[0])

    def on_mark(self, mark: Mark) -> None:
        self.marks.append(mark)

    def on_gap(self) -> None:
        self.heard.append(None)

    def on_clock_change(self) -> None:
        raise AssertionError


QUEUE_SIZE = "max_notify_queue_pages"
TOO_MANY_FOR_A_FLOAT = 1100  # doublings: the largest float is below 2 ** 1024


@pytest.fixture
async def alice(own_runtime: Runtime) -> Someone:
    return await make_user(own_runtime, "read:items")


async def test_everything_may_have_changed_while_nobody_listened(
    own_database_url: str, own_runtime: Runtime
) -> None:
    feed = feed_of(own_database_url, bound=BOUND)
    async with heard_by(feed) as heard:
        await terminate_feeds(own_runtime)
        await until(lambda: EVERYTHING in heard)
        await until(feed.fresh)


async def test_a_new_connection_may_lead_to_another_server_with_another_clock(
    own_database_url: str, own_runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = own_runtime.feed._clock
    clock.sync(clock() + timedelta(days=400), sent=monotonic(), received=monotonic())
    monkeypatch.setattr("app.db.clock.DRIFT", 0)  # so no answer is better than the one above
    assert (clock() - datetime.now(UTC)).days >= 399
    await terminate_feeds(own_runtime)
    await until(lambda: (clock() - datetime.now(UTC)).days < 1)


async def test_no_beat_heard_no_trust_although_the_connection_answers(
    own_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does it help that the database answers on both connections."""
    listeners: list[asyncpg.Connection] = []
    feed = feed_of(own_database_url, bound=BOUND, opened=listeners)
    async with heard_by(feed):
        await listeners[0].execute("UNLISTEN *")
        await until(lambda: not feed.fresh())
        await until(lambda: len(listeners) > 1)
        await until(feed.fresh)
    assert "SCOPEGATE_LISTEN_DATABASE_URL" in caplog.text


async def test_a_connection_that_stalls_without_closing_is_distrusted(
    own_database_url: str, own_runtime: Runtime, alice: Someone
) -> None:
    async with proxy_to(own_database_url) as proxy:
        feed = feed_of(proxy.url, bound=BOUND)
        async with heard_by(feed) as heard:
            proxy.swallow()
            await execute(own_runtime, "DELETE FROM grants")
            await until(lambda: not feed.fresh())
            assert heard == [], "nothing came through"
            proxy.heal()
            await until(feed.fresh)
            assert {EVERYTHING, Change("user", alice.id)} & set(heard), (
                "before it was trusted again"
            )


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs Linux")
async def test_a_backend_that_is_stopped_is_distrusted(own_postgres: OwnPostgres) -> None:
    settings = settings_for(own_postgres.url, revocation_bound=BOUND)
    async with Runtime.open(settings) as runtime, following(runtime):
        async with runtime.engine.connect() as connection:
            backend = await connection.scalar(text(f"SELECT pid FROM ({FEEDS}) AS feeds"))
        assert backend is not None
        os.kill(backend, signal.SIGSTOP)
        await until(lambda: not runtime.feed.fresh())
        await until(runtime.feed.fresh)
        os.kill(backend, signal.SIGCONT)


async def test_a_listener_of_another_database_is_not_trusted(
    own_database_url: str, empty_database_url: str
) -> None:
    """It answers, and its notifications come through: but they are not ours."""
    settings = settings_for(
        own_database_url, listen_database_url=empty_database_url, revocation_bound=BOUND
    )
    async with Runtime.open(settings) as runtime, client_of(runtime) as client:
        token = await bearer(client, await make_user(runtime, "read:items"))
        async with running(runtime.feed):
            await until(lambda: len(runtime.feed._sent) >= 3)
            assert (await client.get("/items", headers=token)).status_code == 200
            assert not runtime.feed.fresh()


@pytest.mark.system
@pytest.mark.skipif(
    not shutil.which("pgbouncer") and not os.environ.get("CI"), reason="no PgBouncer"
)
@pytest.mark.parametrize("listen_directly", [True, False])
async def test_behind_pgbouncer_the_feed_is_trusted_only_where_it_goes_past_it(
    own_database_url: str, listen_directly: bool
) -> None:
    """One server connection for all: the beat comes back to its sender, and no change comes."""
    async with pgbouncer_before(own_database_url) as pooled:
        direct = own_database_url if listen_directly else pooled
        feed = feed_of(pooled, listen_url=direct, bound=BOUND)
        heard: list[Change] = []
        feed.subscribe(heard.append)
        async with running(feed):
            if listen_directly:
                await until(feed.fresh)
            else:
                await until(lambda: heard.count(EVERYTHING) > 1 or feed.fresh())
                assert not feed.fresh()


async def test_the_feed_goes_its_own_way_where_one_is_set(own_database_url: str) -> None:
    """Past a pooler: when that way is cut, requests are still answered, by the database."""
    async with proxy_to(own_database_url) as direct:
        settings = settings_for(
            own_database_url, listen_database_url=direct.url, revocation_bound=BOUND
        )
        async with (
            Runtime.open(settings) as runtime,
            following(runtime),
            client_of(runtime) as client,
        ):
            token = await bearer(client, await make_user(runtime))
            ready = await client.get("/health/ready")
            assert ready.json() == {"status": "ready", "checks": "cached"}
            direct.swallow()
            await until(lambda: not runtime.feed.fresh())
            ready = await client.get("/health/ready")
            assert ready.json() == {"status": "ready", "checks": "database"}
            assert (await client.get("/users/me", headers=token)).status_code == 200
            assert runtime.principals.counts.bypassed == 1


async def test_a_database_that_is_away_is_tried_again_and_said_once_a_try(
    own_postgres: OwnPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    feed = feed_of(own_postgres.url, bound=BOUND)
    async with heard_by(feed):
        await own_postgres.stop()
        assert not feed.fresh()
        await until(lambda: len(caplog.records) >= 2)
        await own_postgres.resume()
        await until(feed.fresh)
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


@pytest.mark.long
async def test_however_long_the_database_is_away_it_is_tried_again(
    own_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.db.changes.MAX_BACKOFF", 0)
    tries = 0

    def refuse() -> None:
        nonlocal tries
        tries += 1
        if tries < TOO_MANY_FOR_A_FLOAT:
            raise ConnectionRefusedError

    feed = feed_of(own_database_url, bound=BOUND, before_listening=refuse)
    async with heard_by(feed):
        assert tries >= TOO_MANY_FOR_A_FLOAT


@pytest.mark.long
async def test_a_planned_reconnection_forgets_nothing_and_misses_no_change(
    own_database_url: str, own_runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listeners are replaced all the time, while one change after the other is committed."""
    monkeypatch.setattr("app.db.listener.LONGEST_LIFE", 0)
    monkeypatch.setattr("app.db.changes.BEATS_PER_BOUND", 200)
    listeners: list[asyncpg.Connection] = []
    feed = feed_of(own_database_url, bound=60, opened=listeners)
    events = HeardEvents()
    feed.follow(events)
    made: list[Change] = []
    async with heard_by(feed) as heard:
        events.heard.clear()
        while len(listeners) < 30:
            user_id = uuid.uuid4()
            made.append(Change("user", user_id))
            async with own_runtime.engine.begin() as connection:
                told = select(func.pg_notify("scopegate", f"user {user_id}"))
                await connection.execute(told)
                event = f"account-enabled {user_id}"
                await connection.execute(select(func.pg_notify("scopegate_events", event)))
        await until(lambda: set(made) <= set(heard))
        assert EVERYTHING not in heard
        await until(lambda: len(events.heard) >= len(made))
        assert events.heard == [change.key for change in made], "once each, and in order"
        assert feed.fresh()
        await until(lambda: sum(not each.is_closed() for each in listeners) <= 2)


async def test_a_successor_that_hears_nothing_never_takes_over(
    own_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listeners: list[asyncpg.Connection] = []
    feed = feed_of(own_database_url, bound=BOUND, opened=listeners)
    async with heard_by(feed) as heard:
        listen = Listeners._listen

        async def deaf(listeners: Listeners, number: int) -> Listener:
            listener = await listen(listeners, number)
            await listener.connection.execute("UNLISTEN *")
            return listener

        monkeypatch.setattr(Listeners, "_listen", deaf)
        feed._listeners.leader.ends_at = 0
        await until(lambda: len(listeners) > 2)
        assert listeners[1].is_closed()
        assert not listeners[0].is_closed()
        assert EVERYTHING not in heard


async def test_a_pool_that_is_full_for_longer_than_the_bound_leaves_the_feed_fresh(
    own_database_url: str,
) -> None:
    settings = settings_for(own_database_url, database_pool_size=2, revocation_bound=BOUND)
    async with Runtime.open(settings) as runtime, following(runtime):
        heard: list[Change] = []
        runtime.feed.subscribe(heard.append)
        async with runtime.engine.connect(), runtime.engine.connect() as connection:
            full_at = monotonic()
            await connection.execute(text("DELETE FROM signing_keys"))
            await connection.commit()
            await until(lambda: Change("keys") in heard)
            await until(lambda: runtime.feed._heard_up_to > full_at + BOUND)
            assert EVERYTHING not in heard


async def test_after_a_machine_slept_nothing_is_trusted_until_a_beat_is_heard(
    own_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux lets Python's monotonic clock stand still meanwhile."""
    feed = feed_of(own_database_url, bound=60)
    async with heard_by(feed):
        assert feed.fresh()
        asleep, running = 61.0, time.clock_gettime
        monkeypatch.setattr(
            time,
            "clock_gettime",
            lambda clock: running(clock) + asleep * (clock == time.CLOCK_BOOTTIME),
        )
        assert not feed.fresh()


async def test_a_full_queue_of_notifications_is_named_as_what_it_is(
    own_postgres: OwnPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    blocker = await asyncpg.connect(libpq_url(own_postgres.url))
    if not await blocker.fetchval("SELECT count(*) FROM pg_settings WHERE name = $1", QUEUE_SIZE):
        pytest.skip("this Postgres' queue is too large to fill")
    await blocker.execute(f"ALTER SYSTEM SET {QUEUE_SIZE} = 64")
    await blocker.close()
    await own_postgres.stop()
    await own_postgres.resume()
    settings = settings_for(own_postgres.url, revocation_bound=BOUND)
    async with (
        Runtime.open(settings) as runtime,
        following(runtime),
        client_of(runtime) as client,
    ):
        alice = await make_user(runtime, "admin")
        token = await bearer(client, alice)
        await until(lambda: runtime.feed.queue_usage == 0)
        blocker = await asyncpg.connect(libpq_url(own_postgres.url))
        await blocker.add_listener("elsewhere", lambda *_: None)
        await blocker.execute("BEGIN; SELECT 1")
        filler = await asyncpg.connect(libpq_url(own_postgres.url))
        with suppress(asyncpg.ProgramLimitExceededError):
            while True:
                await filler.execute("SELECT pg_notify('elsewhere', repeat('x', 7999))")
        refused = await client.delete(f"/users/{alice.id}/sessions", headers=token)
        assert refused.status_code == 503
        assert "queue of notifications is full" in refused.json()["detail"]
        assert "queue of notifications is full" in caplog.text
        await until(lambda: runtime.feed.queue_usage > 0.5 or not runtime.feed.fresh())
        await blocker.close()
        await filler.close()
        await until(runtime.feed.fresh)
