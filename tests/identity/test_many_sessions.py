"""A user with many sessions: what ends all of them costs the same, and is heard once."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import httpx2
import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.access import accounts
from app.access.authority import OPERATOR
from app.db.changes import EVERYTHING, Change
from app.identity.account_writes import create_service, set_password
from app.identity.models import Session, User
from app.identity.session_writes import ENDED_AT_ONCE, end_sessions_of
from app.identity.sessions import live_sessions
from app.ops.housekeeping import BATCH
from app.runtime import Runtime
from app.tokens.opaque import token_digest
from tests.conftest import client_of, following, settings_for
from tests.databases import wait_for_lock
from tests.factories import PASSWORD, bearer, login, make_user, refresh, status
from tests.hearing import Heard
from tests.ops.test_housekeeping import house
from tests.postgres_programs import libpq_url
from tests.telling import told

MANY = ENDED_AT_ONCE + 500
EXPIRED = 30
ONE_BY_ONE = 16
"""Sessions that a transaction notifies of one by one: see migration 0007."""
NEW_PASSWORD = "another battery staple horse"
OPEN_MANY = """
INSERT INTO sessions (id, user_id, epoch, scopes, created_at, expires_at, idle_expires_at,
    refresh_key)
SELECT gen_random_uuid(), id, session_epoch, '{}', now() + age, now() + age + '30 days',
    now() + age + '14 days', '\\x00'
FROM users, generate_series(1, :number) n, LATERAL (SELECT n * interval '-1 ms' AS age) a
WHERE users.id = :user
"""
OPEN_EXPIRED = OPEN_MANY.replace("'30 days'", "'-1 hour'").replace("'14 days'", "'-1 hour'")

End = Callable[[Runtime, uuid.UUID], Awaitable[None]]


async def execute(runtime: Runtime, statement: str, **values: object) -> None:
    async with runtime.engine.begin() as connection:
        await connection.execute(text(statement), values)


async def open_many(runtime: Runtime, user_id: uuid.UUID, number: int = MANY) -> None:
    # A connection without the service's timeouts, and without foreign keys: these take longer than
    # all the rest.
    url = runtime.engine.url.render_as_string(hide_password=False)
    connection = await asyncpg.connect(libpq_url(url))
    await connection.execute("SET session_replication_role = replica")
    statement = OPEN_MANY.replace(":number", str(number)).replace(":user", f"'{user_id}'")
    await connection.execute(statement)
    await connection.close()


async def count_ended(runtime: Runtime, user_id: uuid.UUID) -> int:
    async with runtime.sessions() as db:
        ended = select(func.count(Session.ended_at)).where(Session.user_id == user_id)
        return (await db.execute(ended)).scalar_one()


async def open_many_that_expired(runtime: Runtime, user_id: uuid.UUID) -> None:
    """Open sessions like a service account's: they expire, and nobody ends them."""
    await execute(runtime, OPEN_EXPIRED, number=EXPIRED, user=user_id)


async def live(
    db: AsyncSession, runtime: Runtime, user_id: uuid.UUID, *, limit: int = 9999
) -> list[Session]:
    return await live_sessions(db, user_id, after=None, limit=limit, now=runtime.now())


async def change_password(client: httpx2.AsyncClient, own: dict[str, str]) -> None:
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    answer = await client.post("/users/me/password", json=body, headers=bearer_of(own))
    assert answer.status_code == 204


def bearer_of(pair: dict[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair['access_token']}"}


@contextmanager
def run_again(runtime: Runtime) -> Iterator[list[tuple[str, Any]]]:
    """What is run meanwhile, with its values."""
    found: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, values: object, *_: object) -> None:
        found.append((statement, values))

    event.listen(runtime.engine.sync_engine, "before_cursor_execute", note)
    yield found
    event.remove(runtime.engine.sync_engine, "before_cursor_execute", note)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes(each)


async def disable(runtime: Runtime, user_id: uuid.UUID) -> None:
    async with runtime.work(OPERATOR) as work:
        await accounts.disable(work, user_id)


async def sign_out(runtime: Runtime, user_id: uuid.UUID) -> None:
    async with runtime.work(OPERATOR) as work:
        reason = "ended by an operator"
        await end_sessions_of(work, user_id, reason=reason)


async def replace_password(runtime: Runtime, user_id: uuid.UUID) -> None:
    password_hash = await runtime.hasher.hash(NEW_PASSWORD)
    async with runtime.work(OPERATOR) as work:
        await set_password(work, user_id, password_hash=password_hash)


WAYS: list[End] = [disable, sign_out, replace_password]


@pytest.mark.parametrize("end", WAYS)
async def test_however_many_sessions_a_user_has_all_end_at_once_and_are_heard_once(
    own_database_url: str, end: End
) -> None:
    await end_all(own_database_url, end, MANY)


@pytest.mark.long
@pytest.mark.parametrize("end", WAYS)
async def test_a_user_with_a_million_sessions_is_stopped(own_database_url: str, end: End) -> None:
    await end_all(own_database_url, end, 1_000_000)


async def end_all(database_url: str, end: End, number: int) -> None:
    settings = settings_for(database_url)
    async with (
        Runtime.open(settings) as here,
        Runtime.open(settings) as elsewhere,
        following(here),
        following(elsewhere),
        client_of(here) as client,
        client_of(elsewhere) as other_client,
    ):
        user = await make_user(here)
        first, last = [(await login(client, user)).json() for _ in range(2)]
        # Among all that follow, one expires first and the other one last.
        for days, pair in ((-1, first), (1, last)):
            claims = await here.access_tokens.read(pair["access_token"], now=here.now())
            await execute(
                here,
                f"UPDATE sessions SET expires_at = expires_at + '{days} day' WHERE id = :id",
                id=claims.session_id,
            )
        await open_many(here, user.id, number)
        tokens = [bearer_of(first), bearer_of(last)]
        for each in (client, other_client):
            assert [await status(each, token) for token in tokens] == [200, 200]

        heard = Heard(elsewhere)
        began = time.perf_counter()
        await end(here, user.id)
        print(f"{end.__name__}: {number:,} sessions in {time.perf_counter() - began:.3f} s")

        assert await heard.up_to_now() == [Change("user", user.id)]
        for each in (client, other_client):
            assert [await status(each, token) for token in tokens] == [401, 401]
        for pair in (first, last):
            assert (await refresh(other_client, pair["refresh_token"])).status_code == 400
        assert await count_ended(here, user.id) == ENDED_AT_ONCE
        async with here.sessions() as db:
            reasons = [detail for _, _, detail in await told(db, "session.ended")]
        assert reasons[-1]["sessions"] == ENDED_AT_ONCE


async def test_ones_own_session_goes_on_after_a_change_of_password_and_all_others_end(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    user = await make_user(own_runtime)
    other = (await login(own_client, user)).json()
    own = (await login(own_client, user)).json()
    await open_many(own_runtime, user.id)
    await change_password(own_client, own)
    assert await status(own_client, bearer_of(own)) == 200
    assert await status(own_client, bearer_of(other)) == 401
    listed = await own_client.get("/users/me/sessions", headers=bearer_of(own))
    assert len(listed.json()["items"]) == 1
    await house(own_runtime.sessions, now=own_runtime.now())
    again = await refresh(own_client, own["refresh_token"])
    assert again.status_code == 200
    assert (await refresh(own_client, again.json()["refresh_token"])).status_code == 200
    assert (await refresh(own_client, other["refresh_token"])).status_code == 400


async def test_a_refresh_that_waits_for_the_change_of_password_goes_on(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    """It began before the commit: what it reads of the user is older than what of the session."""
    user = await make_user(own_runtime)
    own = (await login(own_client, user)).json()
    session_id = (
        await own_runtime.access_tokens.read(own["access_token"], now=own_runtime.now())
    ).session_id
    async with own_runtime.work(OPERATOR) as work:
        await end_sessions_of(work, user.id, reason="test", but=session_id)
        refreshing = asyncio.create_task(refresh(own_client, own["refresh_token"]))
        await wait_for_lock(own_runtime)
    assert (await refreshing).status_code == 200


async def test_a_login_in_the_instant_of_a_sign_out_ends_or_comes_after_it(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    user = await make_user(own_runtime)
    for _ in range(5):
        signing_out = asyncio.create_task(sign_out(own_runtime, user.id))
        logins = await asyncio.gather(*(login(own_client, user) for _ in range(3)))
        await signing_out
        async with own_runtime.sessions() as db:
            found = {each.id for each in await live(db, own_runtime, user.id)}
            epoch = await db.scalar(select(User.session_epoch).where(User.id == user.id))
            rows = await db.execute(select(Session.id, Session.epoch))
            opened = {row.id: row.epoch for row in rows}
        assert {each for each, its in opened.items() if its == epoch} == found
        for answer in logins:
            claims = await own_runtime.access_tokens.read(
                answer.json()["access_token"], now=own_runtime.now()
            )
            works = await status(own_client, bearer_of(answer.json())) == 200
            assert works == (claims.session_id in found)


async def test_a_login_of_the_release_before_counts_also_after_a_sign_out(
    own_runtime: Runtime,
) -> None:
    """Its INSERT does not know of epochs."""
    user = await make_user(own_runtime)
    await sign_out(own_runtime, user.id)
    await execute(
        own_runtime,
        "INSERT INTO sessions (id, user_id, scopes, expires_at, idle_expires_at, refresh_key) "
        "VALUES (gen_random_uuid(), :user, '{}', now() + '1 day', now() + '1 day', '')",
        user=user.id,
    )
    async with own_runtime.sessions() as db:
        assert len(await live(db, own_runtime, user.id)) == 1
    await sign_out(own_runtime, user.id)
    async with own_runtime.sessions() as db:
        assert await live(db, own_runtime, user.id) == []


@pytest.mark.parametrize("interrupted", [False, True])
async def test_housekeeping_writes_the_ends_and_nobody_hears_of_it(
    own_runtime: Runtime, interrupted: bool
) -> None:
    user, other = await make_user(own_runtime), await make_user(own_runtime)
    for each in (user, other):
        await open_many(own_runtime, each.id, ENDED_AT_ONCE + BATCH + 500)
        await open_many_that_expired(own_runtime, each.id)
    heard = Heard(own_runtime)
    for statement in ("disabled_at = now()", "session_epoch = session_epoch + 1"):
        await execute(own_runtime, f"UPDATE users SET {statement} WHERE id = :user", user=user.id)
    assert await heard.up_to_now() == [Change("user", user.id)] * 2

    class Interrupted(Exception):
        pass

    def report(_: str, cleared: int) -> None:
        if interrupted and cleared:
            raise Interrupted

    now = own_runtime.now()
    try:
        assert await house(own_runtime.sessions, now=now, report=report)
    except Interrupted:
        assert BATCH <= await count_ended(own_runtime, user.id) < ENDED_AT_ONCE + BATCH + 500
        assert await house(own_runtime.sessions, now=now)
    assert await heard.up_to_now() == []
    assert await count_ended(own_runtime, user.id) == ENDED_AT_ONCE + BATCH + 500
    assert await count_ended(own_runtime, other.id) == 0
    async with own_runtime.sessions() as db:
        behind = select(User.id).where(User.ended_epoch < User.session_epoch)
        assert (await db.scalars(behind)).all() == []


async def test_rows_that_are_ended_in_part_end_whole_and_expired_ones_are_left_alone(
    own_runtime: Runtime,
) -> None:
    user = await make_user(own_runtime)
    await open_many(own_runtime, user.id, 10)
    await open_many_that_expired(own_runtime, user.id)
    await execute(
        own_runtime,
        "UPDATE sessions SET ended_at = now(), end_reason = 'before' WHERE id IN "
        "(SELECT id FROM sessions WHERE expires_at > now() LIMIT 4)",
    )
    heard = Heard(own_runtime)
    await heard.up_to_now()  # of what was done before
    for _ in range(2):
        await sign_out(own_runtime, user.id)
    assert {*await heard.up_to_now()} == {Change("user", user.id)}
    async with own_runtime.sessions() as db:
        reasons = select(Session.end_reason, func.count()).group_by(Session.end_reason)
        assert {row[0]: row[1] for row in await db.execute(reasons)} == {
            "before": 4,
            "ended by an operator": 6,
            None: EXPIRED,
        }
        details = [detail["sessions"] for _, _, detail in await told(db, "session.ended")]
        assert details == [6], "the second time there was none"


@pytest.mark.parametrize(
    ("statement", "revived"),
    [
        ("session_epoch = session_epoch + 1", "disabled_at = NULL"),
        ("disabled_at = now()", "disabled_at = NULL"),
        ("disabled_at = now(), session_epoch = session_epoch + 1", "disabled_at = NULL"),
    ],
)
async def test_who_is_signed_out_or_disabled_by_sql_stays_signed_out(
    own_runtime: Runtime, own_client: httpx2.AsyncClient, statement: str, revived: str
) -> None:
    user = await make_user(own_runtime)
    pair = (await login(own_client, user)).json()
    heard = Heard(own_runtime)
    await execute(own_runtime, f"UPDATE users SET {statement} WHERE id = :user", user=user.id)
    assert await heard.up_to_now() == [Change("user", user.id)]
    assert await status(own_client, bearer_of(pair)) == 401
    await execute(own_runtime, f"UPDATE users SET {revived} WHERE id = :user", user=user.id)
    assert await status(own_client, bearer_of(pair)) == 401
    assert (await refresh(own_client, pair["refresh_token"])).status_code == 400
    assert await status(own_client, await bearer(own_client, user)) == 200


@pytest.mark.parametrize(
    "statement",
    ["UPDATE sessions SET ended_at = now()", "DELETE FROM sessions", "DELETE FROM grants"],
)
async def test_a_statement_over_the_rows_of_many_users_is_heard_once_a_user(
    own_runtime: Runtime, statement: str
) -> None:
    users = 500
    await execute(
        own_runtime,
        "INSERT INTO users (id, username, username_key) SELECT gen_random_uuid(), n, n "
        "FROM generate_series(1, :users) n",
        users=users,
    )
    await execute(
        own_runtime,
        "INSERT INTO grants (user_id, scope) SELECT users.id, scopes.name "
        "FROM users, scopes WHERE scopes.name IN ('read\\:users', 'write\\:users')",
    )
    await execute(
        own_runtime,
        "INSERT INTO sessions (id, user_id, scopes, expires_at, idle_expires_at, refresh_key) "
        "SELECT gen_random_uuid(), id, '{}', now() + '1 day', now() + '1 day', '' "
        "FROM users, generate_series(1, 2)",
    )
    heard = Heard(own_runtime)
    await execute(own_runtime, statement)
    found = await heard.up_to_now()
    assert len(found) == len({*found}), "each once"
    told_by_session = [each for each in found if each.kind == "session"]
    assert len(told_by_session) == (0 if "grants" in statement else ONE_BY_ONE)
    assert users - ONE_BY_ONE <= len(found) - len(told_by_session) <= users


@pytest.mark.parametrize("number", [1, ONE_BY_ONE, ONE_BY_ONE + 10])
async def test_live_opaque_tokens_that_are_deleted_are_heard(
    own_database_url: str, number: int
) -> None:
    settings = settings_for(own_database_url, access_token_format="opaque")
    async with (
        Runtime.open(settings) as runtime,
        following(runtime),
        client_of(runtime) as client,
    ):
        token = (await login(client, await make_user(runtime))).json()["access_token"]
        await execute(
            runtime,
            "INSERT INTO opaque_tokens SELECT sha256(n::text::bytea), session_id, token_id, "
            "scopes, issued_at, expires_at FROM opaque_tokens, generate_series(2, :number) n",
            number=number,
        )
        heard = Heard(runtime)
        await execute(runtime, "DELETE FROM opaque_tokens")
        found = await heard.up_to_now()
    assert Change("token", token_digest(token)) in found or EVERYTHING in found
    assert len(found) == min(number, ONE_BY_ONE + 1)
    assert (EVERYTHING in found) == (number > ONE_BY_ONE)


async def test_a_person_has_so_many_live_sessions_and_no_more(own_database_url: str) -> None:
    settings = settings_for(own_database_url, max_sessions=3)
    async with (
        Runtime.open(settings) as runtime,
        following(runtime),
        client_of(runtime) as client,
    ):
        user = await make_user(runtime)
        pairs = [(await login(client, user)).json() for _ in range(5)]
        works = [await status(client, bearer_of(pair)) == 200 for pair in pairs]
        assert works == [False, False, True, True, True]
        async with runtime.sessions() as db:
            entries = await told(db, "session.ended")
        assert [(by, of, each["reason"]) for by, of, each in entries] == [
            (user.id, user.id, "too many sessions")
        ] * 2
        # At once, none counts the others; the next one makes up for it.
        await asyncio.gather(*(login(client, user) for _ in range(4)))
        assert (await login(client, user)).status_code == 200
        async with runtime.sessions() as db:
            assert len(await live(db, runtime, user.id)) == 3

        async with runtime.work(OPERATOR) as work:
            _, secret = await create_service(work, username="robot")
        form = {"grant_type": "client_credentials", "client_id": "robot"}
        for _ in range(5):
            answer = await client.post("/token", data={**form, "client_secret": secret.value})
            assert answer.status_code == 200
        mine = await client.get("/users/me/sessions", headers=bearer_of(answer.json()))
        assert len(mine.json()["items"]) == 5


@pytest.mark.parametrize("statistics", [False, True])
@pytest.mark.parametrize("history", ["ended", "expired", "of an earlier epoch"])
async def test_a_list_of_sessions_reads_live_rows_only(
    own_runtime: Runtime, statistics: bool, history: str
) -> None:
    user = await make_user(own_runtime)
    past = {
        "ended": OPEN_MANY.replace("epoch,", "ended_at, epoch,", 1).replace(
            "session_epoch,", "now(), session_epoch,", 1
        ),
        "expired": OPEN_EXPIRED,
        "of an earlier epoch": OPEN_MANY,
    }[history]
    await execute(own_runtime, past, number=5000, user=user.id)
    if history == "of an earlier epoch":
        await execute(own_runtime, "UPDATE users SET session_epoch = session_epoch + 1")
    await open_many(own_runtime, user.id, 50)
    if statistics:
        await execute(own_runtime, "ANALYZE")
    async with own_runtime.sessions() as db:
        listed = await live(db, own_runtime, user.id, limit=20)
        after = listed[-1].id
        with run_again(own_runtime) as explained:
            rest = await live_sessions(db, user.id, after=after, limit=100, now=own_runtime.now())
    assert len({each.id for each in (*listed, *rest)}) == 50
    [(statement, values)] = explained
    async with own_runtime.engine.connect() as connection:
        plan = (
            await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
        ).scalar_one()
    touched = sum(
        node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0)
        for node in nodes(plan[0]["Plan"])
        if node.get("Relation Name") == "sessions"
    )
    assert touched < 200, plan


async def test_a_page_after_a_session_whose_row_has_gone_leaves_none_out(
    own_runtime: Runtime,
) -> None:
    user = await make_user(own_runtime)
    await open_many(own_runtime, user.id, 5)
    async with own_runtime.sessions() as db:
        first = await live(db, own_runtime, user.id, limit=2)
    await execute(own_runtime, "DELETE FROM sessions WHERE id = :id", id=first[-1].id)
    async with own_runtime.sessions() as db:
        rest = await live_sessions(db, user.id, after=first[-1].id, limit=9, now=own_runtime.now())
    assert len({each.id for each in rest} - {first[0].id}) == 3
