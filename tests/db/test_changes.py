"""The change feed: what it hears, and that it is trusted only while it hears everything."""

import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app.db.changes import EVERYTHING, Change, parse_change
from app.db.clock import DatabaseClock
from app.db.events import Event, parse_event
from app.errors import Conflict
from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, Someone, login, make_user
from tests.support.feeds import feed_of, heard_by, url_of
from tests.support.processes import until
from tests.support.statements import execute


@pytest.fixture
async def alice(own_runtime: Runtime) -> Someone:
    return await make_user(own_runtime, "read:items")


ID = uuid.UUID("01890000-0000-7000-8000-000000000001")
OF_ALICE = {
    "UPDATE users SET disabled_at = now() WHERE id = :user": "user",
    "UPDATE users SET username = 'other' WHERE id = :user": "user",
    "DELETE FROM users WHERE id = :user": "user",
    "INSERT INTO grants (user_id, scope) VALUES (:user, 'admin')": "user",
    "UPDATE grants SET expires_at = now() WHERE user_id = :user": "user",
    "DELETE FROM grants WHERE user_id = :user": "user",
    "UPDATE sessions SET ended_at = now() WHERE id = :session": "session",
    "UPDATE sessions SET expires_at = now() WHERE id = :session": "session",
    "UPDATE sessions SET idle_expires_at = now() WHERE id = :session": "session",
    "DELETE FROM sessions WHERE id = :session": "session",
}
OF_ALL = {
    "INSERT INTO scopes (name, description) VALUES ('x', 'x')": Change("scopes"),
    "UPDATE signing_keys SET retires_at = now()": Change("keys"),
    "DELETE FROM signing_keys": Change("keys"),
    "TRUNCATE grants": EVERYTHING,
    "TRUNCATE sessions CASCADE": EVERYTHING,
    "TRUNCATE opaque_tokens": EVERYTHING,
    "TRUNCATE signing_keys": Change("keys"),
}


@pytest.mark.parametrize("statement", OF_ALICE)
async def test_a_change_of_a_row_is_heard_whoever_makes_it(
    own_runtime: Runtime, alice: Someone, statement: str
) -> None:
    async with client_of(own_runtime) as client:
        await login(client, alice)
    async with own_runtime.engine.connect() as connection:
        session_id = await connection.scalar(text("SELECT id FROM sessions"))
    expected = {
        "user": Change("user", alice.id),
        "session": Change("session", uuid.UUID(str(session_id))),
    }[OF_ALICE[statement]]
    values = {"user": alice.id} if ":user" in statement else {"session": session_id}
    async with heard_by(feed_of(url_of(own_runtime))) as heard:
        await execute(own_runtime, statement, **values)
        await until(lambda: expected in heard)


@pytest.mark.parametrize("statement", OF_ALL)
async def test_a_change_of_many_rows_is_heard(own_runtime: Runtime, statement: str) -> None:
    async with heard_by(feed_of(url_of(own_runtime))) as heard:
        await execute(own_runtime, statement)
        await until(lambda: OF_ALL[statement] in heard)


async def test_what_replication_applies_is_heard_too(own_runtime: Runtime, alice: Someone) -> None:
    async with heard_by(feed_of(url_of(own_runtime))) as heard:
        async with own_runtime.engine.begin() as connection:
            await connection.execute(text("SET LOCAL session_replication_role = replica"))
            await connection.execute(text("DELETE FROM grants"))
        await until(lambda: Change("user", alice.id) in heard)


async def test_a_change_that_is_rolled_back_is_not_heard(
    own_runtime: Runtime, alice: Someone
) -> None:
    async with heard_by(feed_of(url_of(own_runtime))) as heard:
        async with own_runtime.engine.connect() as connection:
            await connection.execute(text("DELETE FROM grants"))
            await connection.rollback()
        await execute(own_runtime, "UPDATE signing_keys SET algorithm = algorithm")
        await until(lambda: heard == [Change("keys")])


async def test_logins_and_refreshes_tell_nobody_anything(
    own_runtime: Runtime, alice: Someone
) -> None:
    """They are most of what is written, and take no right away."""
    async with heard_by(feed_of(url_of(own_runtime))) as heard, client_of(own_runtime) as client:
        token = (await login(client, alice)).json()["refresh_token"]
        form = {"grant_type": "refresh_token", "refresh_token": token}
        assert (await client.post("/token", data=form)).status_code == 200
        await execute(own_runtime, "UPDATE signing_keys SET algorithm = algorithm")
        await until(lambda: heard == [Change("keys")])


@pytest.mark.parametrize("payload", ["", "user", "user x", "token \\xzz", "a later version's", " "])
def test_what_is_not_understood_may_be_anything(payload: str) -> None:
    assert parse_change(payload) == EVERYTHING


@pytest.mark.parametrize(
    "payload",
    [
        "",
        " ",
        "account-disabled",
        "account-disabled x",
        f"account-disabled {ID} {ID}",
        f"session-revoked {ID} {ID} {ID}",
        f"scopes-changed {ID}",
        f"a-later-version {ID}",
    ],
)
def test_an_event_that_is_not_understood_may_be_anything(payload: str) -> None:
    assert parse_event(payload) == Event("everything")


def test_a_session_that_ended_is_told_with_its_user() -> None:
    assert parse_event(f"session-revoked {ID} {ID}") == Event("session-revoked", (ID, ID))


def test_a_token_is_told_by_its_digest() -> None:
    assert parse_change(r"token \x00ff") == Change("token", b"\x00\xff")


async def test_a_published_change_is_heard_at_once_but_not_before_the_commit(
    own_runtime: Runtime, alice: Someone
) -> None:
    heard: list[Change] = []
    own_runtime.feed.subscribe(heard.append)
    async with own_runtime.work(OPERATOR) as work:
        async with work.savepoint():
            work.publish(Change("scopes"))
            await work.db.execute(text("SELECT 1"))
        assert Change("scopes") not in heard, "a savepoint is not a commit"
        with suppress(Conflict):
            async with work.savepoint():
                work.publish(Change("keys"))
                raise Conflict("as it happens")
    assert Change("scopes") in heard
    assert Change("keys") not in heard, "what was rolled back is not published"


async def test_the_clock_is_the_databases(own_runtime: Runtime, clock: MovableClock) -> None:
    database_clock = DatabaseClock()
    far = clock()
    clock.move(days=400)
    database_clock.sync(clock(), sent=0.0, received=0.1)
    assert (database_clock() - far).days >= 399
    now, slow = database_clock(), clock() + timedelta(seconds=50)
    assert database_clock.sync(slow, sent=0.0, received=60.0)
    assert database_clock() - now < timedelta(seconds=1), "an answer that took a minute tells less"
    database_clock.reset()
    assert database_clock.sync(slow, sent=0.0, received=60.0)
    assert now - database_clock() > timedelta(seconds=1), "another server's clock is another clock"


def test_the_clock_is_never_ahead_of_the_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    """So no token says that it was issued later than it was. `latest` is never behind."""
    passed = 0.0
    monkeypatch.setattr("app.db.clock.monotonic", lambda: passed)
    database_clock, answered = DatabaseClock(), datetime(2027, 1, 4, tzinfo=UTC)
    # The database read its clock at some moment of these four seconds.
    database_clock.sync(answered, sent=0.0, received=4.0)
    passed = 4.0
    assert database_clock() == answered
    assert database_clock.latest() == (answered + timedelta(seconds=4)).timestamp()
    passed = 1004.0
    drift = timedelta(seconds=1)
    assert database_clock.latest() == (answered + timedelta(seconds=1004) + drift).timestamp()


@pytest.mark.parametrize("seconds", [-3600, -1, 1, 3600])
def test_a_clock_that_was_set_is_noticed_and_adopted(
    monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    monkeypatch.setattr("app.db.clock.monotonic", lambda: 10.0)
    database_clock, time = DatabaseClock(), datetime(2027, 1, 4, tzinfo=UTC)
    assert database_clock.sync(time, sent=0.0, received=0.1)
    assert database_clock.sync(time + timedelta(seconds=9.9), sent=9.9, received=10.0)
    later = time + timedelta(seconds=9.9 + seconds)
    assert not database_clock.sync(later, sent=9.9, received=10.0)
    assert database_clock() == later
