"""GET /events: what a stream proves, where it goes on, and when it ends."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import asyncpg
import httpx2
import pytest
from sqlalchemy import text

from app.api import events
from app.db.events import Event
from app.events.batches import Batches
from app.events.ring import KEPT_EVENTS, Entry, Ring
from app.events.streams import MAX_BEHIND, WITHOUT_PAUSE
from app.main import create_app
from app.runtime import Runtime
from tests.conftest import client_of, following, settings_for
from tests.support.clock import MovableClock
from tests.support.factories import Someone, bearer, make_user
from tests.support.feeds import terminate_feeds, url_of
from tests.support.many_sessions import make_holders
from tests.support.metrics import read, total
from tests.support.postgres_programs import libpq_url
from tests.support.processes import until
from tests.support.statements import execute
from tests.support.streams import TIME, Reader, database_time, following_events

Header = dict[str, str]
SCRAPE = "a-metrics-token-for-the-tests-0123456789"


@pytest.fixture
async def client(own_runtime: Runtime) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(own_runtime) as client:
        yield client


@pytest.fixture
async def follower(own_runtime: Runtime) -> Someone:
    return await make_user(own_runtime, "read:events")


@pytest.fixture
async def token(client: httpx2.AsyncClient, follower: Someone) -> Header:
    return await bearer(client, follower)


@asynccontextmanager
async def another_replica(runtime: Runtime) -> AsyncIterator[Runtime]:
    settings = settings_for(url_of(runtime))
    async with Runtime.open(settings) as replica, following(replica):
        yield replica


async def notify(runtime: Runtime, *users: uuid.UUID) -> None:
    """Commit a change of each of these users."""
    for user in users:
        await execute(runtime, f"SELECT pg_notify('scopegate_events', 'account-enabled {user}')")


def told(reader: Reader) -> list[uuid.UUID]:
    """The users that the stream has told of, in order."""
    return [uuid.UUID(each.subject["sub"]) for each in reader.happened()]


async def test_hello_says_whose_stream_it_is_and_what_it_promises(
    own_runtime: Runtime, token: Header
) -> None:
    before = await database_time(own_runtime)
    async with following_events(own_runtime, token, nonce="a-Z_9") as reader:
        name, data = await reader.next()
        after = await database_time(own_runtime)
    assert reader.status == 200
    assert reader.headers["content-type"] == "text/event-stream"
    assert reader.headers["cache-control"] == "no-store"
    assert reader.headers["x-accel-buffering"] == "no"
    now = data.pop("now")
    assert before <= now <= after
    assert (name, data) == (
        "hello",
        {
            "v": 1,
            "iss": own_runtime.settings.token_issuer,
            "nonce": "a-Z_9",
            "complete_since": now,
            "resumed": False,
            "beat": 1000,
            "bound": 5000,
        },
    )


async def test_without_a_nonce_it_is_null(own_runtime: Runtime, token: Header) -> None:
    async with following_events(own_runtime, token) as reader:
        assert (await reader.next("hello"))[1]["nonce"] is None


@pytest.mark.parametrize("nonce", ["", "a b", "a" * 129, "é"])
async def test_a_nonce_that_does_not_fit_is_400(
    own_runtime: Runtime, token: Header, nonce: str
) -> None:
    async with following_events(own_runtime, token, nonce=nonce) as reader:
        assert reader.status == 400
    assert len(own_runtime.streams) == 0


@pytest.mark.parametrize("through", ["", "-1", "1.5", "1" * 16])
async def test_a_point_to_resume_from_that_does_not_fit_is_400(
    own_runtime: Runtime, token: Header, through: str
) -> None:
    async with following_events(own_runtime, token, through=through) as reader:
        assert reader.status == 400
    assert len(own_runtime.streams) == 0


async def test_only_who_may_follow_events_opens_a_stream(
    own_runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    assert (await client.get("/events")).status_code == 401
    token = await bearer(client, await make_user(own_runtime, "read:items", "read:audit"))
    assert (await client.get("/events", headers=token)).status_code == 403
    assert len(own_runtime.streams) == 0


async def test_head_says_what_get_would_and_opens_nothing(
    own_runtime: Runtime, token: Header
) -> None:
    async with following_events(own_runtime, token, method="HEAD") as reader:
        assert (reader.status, await reader.until_ended()) == (200, [])
        assert reader.headers["content-type"] == "text/event-stream"
    assert len(own_runtime.streams) == 0


async def test_the_document_declares_a_stream_and_no_json(client: httpx2.AsyncClient) -> None:
    operation = (await client.get("/openapi.json")).json()["paths"]["/events"]["get"]
    assert operation["responses"]["200"]["content"].keys() == {"text/event-stream"}
    assert [each["name"] for each in operation["parameters"]] == [
        "Scopegate-Nonce",
        "Scopegate-Through",
    ]
    assert operation["security"] == [{"OAuth2PasswordBearer": ["read:events"]}]


async def test_changes_come_in_the_order_of_their_commits(
    own_runtime: Runtime, token: Header
) -> None:
    users = [uuid.uuid4() for _ in range(50)]
    async with following_events(own_runtime, token) as reader:
        async with own_runtime.engine.connect() as early:
            await early.execute(
                text(f"SELECT pg_notify('scopegate_events', 'account-enabled {users[-1]}')")
            )
            await notify(own_runtime, *users[:-1])
            await early.commit()
        await reader.proven()
        assert told(reader) == users


async def test_a_beat_never_covers_a_transaction_that_is_still_open(
    own_runtime: Runtime, token: Header
) -> None:
    """It began, and wrote, before several beats; it is committed after them."""
    user = uuid.uuid4()
    async with following_events(own_runtime, token) as reader:
        async with own_runtime.engine.connect() as slow:
            await slow.execute(
                text(f"SELECT pg_notify('scopegate_events', 'account-enabled {user}')")
            )
            for _ in range(3):
                await reader.next("beat")
            assert told(reader) == []
            committing = (await slow.execute(text(TIME))).scalar_one()
            await slow.commit()
        _, claims = await reader.next("set")
        before = [data["through"] for name, data in reader.frames if name == "beat"]
        beats = before[: len(before) - 1] if reader.frames[-1][0] == "beat" else before
        assert max(beats) <= committing
        second = next(iter(claims["events"].values()))["event_timestamp"]
        assert 1000 * second >= committing - 999, "never earlier than the commit"


async def write_for(
    runtime: Runtime, seconds: float, committed: dict[uuid.UUID, tuple[int, int]]
) -> None:
    """Commit changes for a while, some in long transactions; note the time before and after."""
    connection = await asyncpg.connect(libpq_url(url_of(runtime)))
    ends_at = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < ends_at:
        user = uuid.uuid4()
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(f"NOTIFY scopegate_events, 'account-enabled {user}'")
        if len(committed) % 5 == 4:
            await connection.execute("SELECT pg_sleep(random() * 0.3)")
        before = await connection.fetchval(TIME)
        await transaction.commit()
        committed[user] = before, await connection.fetchval(TIME)
    await connection.close()


async def test_every_beat_and_every_resumption_is_complete_while_transactions_overlap_them(
    own_runtime: Runtime, token: Header
) -> None:
    """On two replicas: the second goes on where the first has stopped, at each of its beats."""
    committed: dict[uuid.UUID, tuple[int, int]] = {}
    async with another_replica(own_runtime) as replica, AsyncExitStack() as readers:
        # Points to resume from are behind the margin for servers that were replaced.
        replica.streams.ring._joins_from = 0
        first = await readers.enter_async_context(following_events(own_runtime, token))
        writing = [asyncio.create_task(write_for(own_runtime, 6, committed)) for _ in range(4)]
        resumed = []
        while not all(task.done() for task in writing):
            through = (await first.next("beat"))[1]["through"]
            entered = following_events(replica, token, through=through)
            resumed.append((through, await readers.enter_async_context(entered)))
        await asyncio.gather(*writing)
        for reader in (first, *(each for _, each in resumed)):
            await reader.proven()
    assert len(committed) > 50
    for reader in (first, *(each for _, each in resumed)):
        hello = reader.frames[0][1]
        sent: set[uuid.UUID] = set()
        for name, data in reader.frames:
            if name == "set":
                sent.add(uuid.UUID(data["sub_id"]["sub"]))
            elif name == "beat":
                due = {
                    user
                    for user, (before, after) in committed.items()
                    if hello["complete_since"] <= before and after < data["through"]
                }
                assert due <= sent
    assert any(reader.frames[0][1]["resumed"] for _, reader in resumed)
    for through, reader in resumed:
        if reader.frames[0][1]["resumed"]:
            assert reader.frames[0][1]["complete_since"] <= through


async def test_another_replica_goes_on_where_the_first_has_stopped(
    own_runtime: Runtime, token: Header
) -> None:
    before, between, after = (uuid.uuid4() for _ in range(3))
    async with another_replica(own_runtime) as replica:
        replica.streams.ring._joins_from = 0
        async with following_events(own_runtime, token) as reader:
            await notify(own_runtime, before)
            await reader.proven()
            through = await reader.proven()
        await notify(own_runtime, between)
        async with following_events(replica, token, through=through) as reader:
            _, hello = await reader.next("hello")
            await notify(own_runtime, after)
            await reader.proven()
        assert hello["resumed"]
        assert hello["complete_since"] <= through
        assert told(reader)[-2:] == [between, after]


@pytest.mark.parametrize("how", ["long ago", "in the future", "before a gap", "too soon"])
async def test_where_the_past_is_not_known_a_stream_begins_anew(
    own_runtime: Runtime, token: Header, how: str
) -> None:
    now = await database_time(own_runtime)
    if how != "too soon":
        own_runtime.streams.ring._joins_from = 0
    match how:
        case "long ago":
            through = now - 121_000
        case "in the future":
            through = now + 60_000
        case "before a gap":
            through = now
            await until(lambda: own_runtime.streams.ring._places[-1].mark.until > now)
            own_runtime.streams.on_gap()
            await until(lambda: own_runtime.streams.ring.mark)
        case _:
            # The server before may have had another clock.
            through = now
    async with following_events(own_runtime, token, through=through) as reader:
        _, hello = await reader.next("hello")
    assert not hello["resumed"]
    assert hello["complete_since"] == hello["now"]


async def test_a_reader_that_is_too_slow_gets_everything_and_goes_on(
    own_runtime: Runtime, token: Header
) -> None:
    async with following_events(own_runtime, token) as reader:
        await reader.next("beat")
        reader.blocked.clear()
        end = own_runtime.streams.ring.end
        await execute(
            own_runtime,
            "SELECT pg_notify('scopegate_events', 'account-enabled ' || gen_random_uuid()) "
            f"FROM generate_series(1, {MAX_BEHIND + 200})",
        )
        await until(lambda: own_runtime.streams.ring.end >= end + MAX_BEHIND + 200)
        last = uuid.uuid4()
        await notify(own_runtime, last)
        await until(lambda: own_runtime.streams.lag > 0)
        reader.blocked.set()
        await reader.next("everything")
        await reader.proven()
    # What was written already when it stopped to read came through.
    assert len(told(reader)) < MAX_BEHIND
    assert own_runtime.streams.overflows == 1
    assert own_runtime.streams.sent["everything"] == 1


async def test_a_reader_that_keeps_up_gets_every_one_of_many_changes(
    own_runtime: Runtime, token: Header
) -> None:
    async with following_events(own_runtime, token) as reader:
        await execute(
            own_runtime,
            "SELECT pg_notify('scopegate_events', 'account-enabled ' || gen_random_uuid()) "
            f"FROM generate_series(1, {MAX_BEHIND // 2})",
        )
        await reader.proven()
        assert len(set(told(reader))) == MAX_BEHIND // 2
    assert own_runtime.streams.sent["set"] == MAX_BEHIND // 2


async def test_ten_thousand_grants_changed_at_once_are_all_told_or_are_everything(
    own_runtime: Runtime, token: Header
) -> None:
    """One reader keeps up, the other one takes nothing meanwhile. Nothing piles up for either."""
    number, ring = 10_000, own_runtime.streams.ring
    await make_holders(url_of(own_runtime), number, "read:items")
    async with (
        following_events(own_runtime, token) as reader,
        following_events(own_runtime, token) as slow,
    ):
        await slow.next("beat")
        slow.blocked.clear()
        end = ring.end
        await execute(own_runtime, "DELETE FROM grants WHERE scope = 'read\\:items'")
        await reader.proven()
        assert ring.end == end + number, "one event a user"
        assert ring.end - ring.start <= KEPT_EVENTS
        slow.blocked.set()
        await slow.proven()
        for each in (reader, slow):
            everything = ("everything", {}) in each.frames
            assert everything or len(set(told(each))) == number
        assert len(told(slow)) < MAX_BEHIND, "the rest was dropped"


async def test_a_long_replay_is_no_overflow(own_runtime: Runtime, token: Header) -> None:
    ring = own_runtime.streams.ring
    ring._joins_from = 0
    async with following_events(own_runtime, token) as reader:
        through = await reader.proven()
    await execute(
        own_runtime,
        "SELECT pg_notify('scopegate_events', 'account-enabled ' || gen_random_uuid()) "
        f"FROM generate_series(1, {5 * MAX_BEHIND})",
    )
    await until(lambda: ring.end >= 5 * MAX_BEHIND)
    async with following_events(own_runtime, token, through=through) as reader:
        await reader.proven()
        assert len(set(told(reader))) >= 5 * MAX_BEHIND
    assert own_runtime.streams.overflows == 0


async def test_the_streams_own_token_expires(
    own_runtime: Runtime, token: Header, clock: MovableClock
) -> None:
    async with following_events(own_runtime, token) as reader:
        await reader.next("beat")
        clock.move(minutes=15)
        assert (await reader.until_ended())[-1] == ("bye", {"reason": "expired"})
    assert len(own_runtime.streams) == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sessions SET ended_at = now() WHERE user_id = :user",
        "DELETE FROM grants WHERE user_id = :user",
        "UPDATE users SET disabled_at = now() WHERE id = :user",
        "UPDATE users SET session_epoch = session_epoch + 1 WHERE id = :user",
    ],
)
async def test_a_stream_ends_at_once_when_its_own_caller_may_no_longer_follow(
    own_runtime: Runtime, token: Header, follower: Someone, statement: str
) -> None:
    async with following_events(own_runtime, token) as reader:
        await reader.next("beat")
        beats = own_runtime.streams.sent["beat"]
        await execute(own_runtime, statement, user=follower.id)
        frames = await reader.until_ended()
        assert frames[-1] == ("bye", {"reason": "revoked"})
        assert own_runtime.streams.sent["beat"] <= beats + 1, "not only at some later beat"
        assert reader.happened() == [], "nor was it told of anything more"


async def test_a_stream_ends_when_a_grant_of_its_caller_comes_to_its_end(
    own_runtime: Runtime, client: httpx2.AsyncClient, clock: MovableClock
) -> None:
    ends_at = clock() + timedelta(minutes=5)
    user = await make_user(own_runtime, "read:events", expires_at=ends_at)
    async with following_events(own_runtime, await bearer(client, user)) as reader:
        await reader.next("beat")
        clock.move(minutes=6)
        assert (await reader.until_ended())[-1][0] == "bye"


async def test_at_a_shutdown_every_stream_says_goodbye_and_none_is_opened(
    own_runtime: Runtime, token: Header
) -> None:
    async with following_events(own_runtime, token) as reader:
        await reader.next("beat")
        own_runtime.streams.drain()
        assert (await reader.until_ended())[-1] == ("bye", {"reason": "draining"})
    async with following_events(own_runtime, token) as reader:
        assert reader.status == 503
        assert reader.headers["retry-after"] == "1"


async def test_past_the_limit_a_stream_is_503_until_another_has_gone(
    own_runtime: Runtime, token: Header
) -> None:
    own_runtime.streams._limit = 2
    async with following_events(own_runtime, token):
        async with (
            following_events(own_runtime, token),
            following_events(own_runtime, token) as third,
        ):
            assert third.status == 503
            assert third.headers["retry-after"] == "1"
        async with following_events(own_runtime, token) as third:
            assert third.status == 200
    assert len(own_runtime.streams) == 0


async def test_without_a_fresh_feed_no_stream_is_opened(runtime: Runtime) -> None:
    """The runtime of this test follows no changes."""
    async with client_of(runtime) as client:
        token = await bearer(client, await make_user(runtime, "read:events"))
        answer = await client.get("/events", headers=token)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


async def test_a_feed_that_is_lost_and_comes_back_in_time_is_everything(
    own_runtime: Runtime, token: Header
) -> None:
    async with following_events(own_runtime, token) as reader:
        await reader.next("beat")
        await terminate_feeds(own_runtime)
        assert await reader.next("everything") == ("everything", {})
        await reader.proven()


async def test_a_stream_that_nothing_proves_any_more_is_lost(
    own_runtime: Runtime, token: Header, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following_events(own_runtime, token) as reader:
        await reader.next("beat")
        # No beat is heard from here on.
        monkeypatch.setattr(own_runtime.feed, "_record_heard_beats", lambda: None)
        monkeypatch.setattr(own_runtime.feed._listeners, "_on_beat", lambda: None)
        assert (await reader.until_ended())[-1] == ("bye", {"reason": "lost"})


async def test_a_stream_that_told_the_time_by_a_clock_that_was_set_is_lost(
    own_runtime: Runtime, token: Header
) -> None:
    async with following_events(own_runtime, token) as reader:
        await reader.next("beat")
        # As if the database's clock had been set back by a minute.
        own_runtime.feed._clock._epoch += 60
        assert (await reader.until_ended())[-1] == ("bye", {"reason": "lost"})
    async with following_events(own_runtime, token) as reader:
        await reader.proven()


async def test_what_this_process_publishes_to_itself_is_no_event(
    own_runtime: Runtime, token: Header
) -> None:
    """It is told of with the commit's own notification, once and in order."""
    user = await make_user(own_runtime)
    async with following_events(own_runtime, token) as reader:
        async with client_of(own_runtime) as client:
            admin = await bearer(client, await make_user(own_runtime, "admin"))
            await reader.proven()
            before = len(reader.happened())
            await client.delete(f"/users/{user.id}/sessions", headers=admin)
        await reader.proven()
    assert len(reader.happened()) == before + 1


async def test_between_the_writes_of_many_streams_requests_are_served(
    own_runtime: Runtime,
) -> None:
    streams = own_runtime.streams
    opened = [streams.open(after=None) for _ in range(3)]
    woken = []
    streams.drain()
    for _ in range(3):
        woken.append(sum(each.woken.is_set() for each in opened))
        await asyncio.sleep(0)  # One turn of the loop.
    for each in opened:
        each.close()
    assert woken == [1, 2, 3]


async def test_few_changes_are_told_at_once_and_many_with_pauses(own_runtime: Runtime) -> None:
    streams, loop = own_runtime.streams, asyncio.get_running_loop()
    stream = streams.open(after=None)
    streams._wake_at = loop.time() - 1
    waits = []
    for _ in range(50):
        streams._wake_soon()
        assert streams._waking is not None
        waits.append(streams._waking.when() - loop.time())
        streams._wake()
    stream.close()
    assert max(waits[:WITHOUT_PAUSE]) <= 0
    assert max(waits) > 0


def test_only_events_about_the_caller_have_the_token_looked_at_again() -> None:
    own, other = uuid.uuid4(), uuid.uuid4()

    def concerns(*events: Event) -> bool:
        ring = Ring(margin=0)
        for event in events:
            ring.append(Entry(event, 0.0, 0))
        batches = Batches(ring, issuer="https://auth.example")
        batches.show()
        return batches.read(0).concerns(frozenset({own}))

    about_another = Event("account-disabled", (other,))
    assert concerns(Event("account-disabled", (own,)))
    assert concerns(about_another, Event("scopes-changed"))
    assert not concerns(about_another)
    assert not concerns()


async def test_a_stream_is_no_latency_and_what_it_sends_is_counted(own_database_url: str) -> None:
    settings = settings_for(own_database_url, metrics_token=SCRAPE, max_streams=7)
    async with Runtime.open(settings) as runtime, following(runtime):
        app = create_app(settings)
        app.state.runtime = runtime
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
            token = await bearer(client, await make_user(runtime, "read:events"))
            async with following_events(runtime, token, app=app) as reader:
                await notify(runtime, uuid.uuid4())
                await reader.proven()
                header = {"Authorization": f"Bearer {SCRAPE}"}
                found = read((await client.get("/metrics", headers=header)).text)
                assert total(found, "scopegate_event_streams_open") == 1
            assert (await client.get("/events")).status_code == 401
            after = read((await client.get("/metrics", headers=header)).text)
    assert total(found, "scopegate_event_streams_limit") == 7
    assert total(found, "scopegate_event_frames_total", frame="hello") == 1
    assert total(found, "scopegate_event_frames_total", frame="set") == 1
    assert total(found, "scopegate_event_frames_total", frame="beat") >= 1
    assert total(found, "scopegate_event_overflows_total") == 0
    assert total(found, "scopegate_event_lag_seconds") == 0
    count = "scopegate_request_duration_seconds_count"
    assert total(after, count, route="/events", status="200") == 0
    assert total(after, count, route="/events", status="401") == 1


async def test_what_is_committed_while_hello_is_made_is_sent(
    own_runtime: Runtime, token: Header, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time that hello tells, and before hello is sent."""
    user, ask = uuid.uuid4(), events._database_time

    async def ask_slowly(runtime: Runtime) -> int:
        now, end = await ask(runtime), runtime.streams.ring.end
        await notify(runtime, user)
        await until(lambda: runtime.streams.ring.end > end)
        return now

    monkeypatch.setattr(events, "_database_time", ask_slowly)
    async with following_events(own_runtime, token) as reader:
        await reader.proven()
        assert told(reader) == [user]
