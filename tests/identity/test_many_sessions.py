"""A user with many sessions: what ends all of them costs the same, and is heard once."""

import asyncio
import json
import time
import uuid
from typing import Any

import httpx2
import pytest
from sqlalchemy import event, select

from app.db.changes import EVERYTHING, Change
from app.identity.account_writes import set_password
from app.identity.hash_threads import COMMANDS
from app.identity.models import Session, User
from app.identity.session_writes import ENDED_AT_ONCE, end_sessions_of
from app.runtime import Runtime
from app.tokens.opaque import token_digest
from tests.conftest import client_of, following, settings_for
from tests.support.audit import told
from tests.support.databases import wait_for_lock
from tests.support.factories import OPERATOR, PASSWORD, bearer, login, make_user, refresh, status
from tests.support.hearing import Heard
from tests.support.housekeeping import house
from tests.support.many_sessions import (
    MANY,
    NEW_PASSWORD,
    End,
    bearer_of,
    count_ended,
    disable,
    live,
    open_many,
    sign_out,
)
from tests.support.personal_tokens import personal_token
from tests.support.statements import execute

ONE_BY_ONE = 16
"""Sessions that a transaction notifies of one by one: see migration 0007."""


async def change_password(client: httpx2.AsyncClient, own: dict[str, str]) -> None:
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    answer = await client.post("/users/me/password", json=body, headers=bearer_of(own))
    assert answer.status_code == 204


async def replace_password(runtime: Runtime, user_id: uuid.UUID) -> None:
    password_hash = await runtime.hasher.hash(NEW_PASSWORD, source=COMMANDS)
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


async def test_a_change_of_password_finds_the_tokens_among_any_number_of_logins(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    """By the small table of live tokens: no statement looks through the person's sessions."""
    user = await make_user(own_runtime, "read:items")
    token = await personal_token(own_client, own_runtime, user, "read:items")
    await open_many(own_runtime, user.id, 20_000)
    await execute(own_runtime, "ANALYZE")
    own = (await login(own_client, user)).json()
    ran: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith("UPDATE sessions SET epoch"):
            ran.append((statement, parameters))

    event.listen(own_runtime.engine.sync_engine, "before_cursor_execute", note)
    await change_password(own_client, own)
    event.remove(own_runtime.engine.sync_engine, "before_cursor_execute", note)
    assert [await token.works(), await status(own_client, bearer_of(own))] == [True, 200]
    ((statement, parameters),) = ran
    await open_many(own_runtime, user.id, 20_000)
    async with own_runtime.engine.connect() as connection:
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
        found = (await connection.exec_driver_sql(explain, parameters)).scalar_one()
        await connection.rollback()
    ((plan,),) = [found if isinstance(found, list) else json.loads(found)]
    outer = [each for each in plan["Plan"]["Plans"] if each["Parent Relationship"] == "Outer"]
    assert [each["Actual Rows"] for each in outer] == [2], "it has found them again"
    assert most_rows(plan["Plan"]) < 100, plan


def most_rows(plan: dict[str, Any]) -> float:
    """The most rows that any part of the plan has looked at."""
    seen: float = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    return max(seen * float(plan["Actual Loops"]), *map(most_rows, plan.get("Plans", [])), 0)


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
