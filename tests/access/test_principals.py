"""The live principal: remembered while the feed vouches for it, and never longer."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.access.grants import grant
from app.access.holders import load_holder
from app.access.principals import Counts, Principals
from app.identity.models import Session
from app.runtime import Runtime
from tests.conftest import following, settings_for
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, make_user
from tests.support.locks import held
from tests.support.principals import (
    SCOPE,
    Login,
    find,
    held_principals,
    revoke_elsewhere,
    scopes_of,
    sign_in,
)
from tests.support.processes import until
from tests.support.statements import statements_of


async def test_what_is_remembered_is_asked_once(own_runtime: Runtime, alice: Login) -> None:
    principals = own_runtime.principals
    with statements_of(own_runtime) as statements:
        for _ in range(5):
            assert scopes_of(await find(principals, own_runtime, alice)) == {SCOPE}
    assert len(statements) == 1
    assert (principals.counts.misses, principals.counts.hits) == (1, 4)


async def test_fifty_who_ask_at_once_cause_one_load(own_runtime: Runtime, alice: Login) -> None:
    with statements_of(own_runtime) as statements:
        found = await asyncio.gather(
            *(find(own_runtime.principals, own_runtime, alice) for _ in range(50))
        )
    assert {scopes_of(each) for each in found} == {frozenset({SCOPE})}
    assert len(statements) == 1


async def test_what_ends_by_itself_ends_to_the_second_although_it_is_remembered(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    user = await make_user(own_runtime, SCOPE)
    async with own_runtime.work(OPERATOR) as work:
        end = work.now + timedelta(seconds=120)
        await grant(work, user.id, "write:items", expires_at=end)
    login = await sign_in(own_runtime, user, minutes=5)

    async def held_now() -> frozenset[str]:
        found = await find(own_runtime.principals, own_runtime, login, SCOPE, "write:items")
        return scopes_of(found)

    assert await held_now() == {SCOPE, "write:items"}
    clock.move(seconds=118)
    assert await held_now() == {SCOPE, "write:items"}
    clock.move(seconds=2)
    assert await held_now() == {SCOPE}, "a grant"
    clock.move(seconds=180)
    assert await find(own_runtime.principals, own_runtime, login) is None, "the session"


@pytest.mark.parametrize("which", ["expires_at", "idle_expires_at"])
async def test_a_remembered_session_ends_when_the_first_of_its_ends_comes(
    own_runtime: Runtime, alice: Login, which: str
) -> None:
    end = own_runtime.now() + timedelta(minutes=5)
    async with own_runtime.work(OPERATOR) as work:
        row = await work.db.get_one(Session, alice.session_id)
        setattr(row, which, end)
    whom: dict[str, Any] = {"user_id": alice.user.id, "token_scopes": frozenset({SCOPE})}
    principals = Principals(own_runtime.sessions, own_runtime.feed, size=1)
    for _ in range(2):
        before = end - timedelta(microseconds=1)
        assert await principals.find(alice.session_id, **whom, now=before)
    assert await principals.find(alice.session_id, **whom, now=end) is None


async def test_what_ends_at_a_moment_is_over_at_that_moment(own_runtime: Runtime) -> None:
    end = own_runtime.now() + timedelta(seconds=60)
    login = await sign_in(own_runtime, await make_user(own_runtime, SCOPE, expires_at=end))
    whom: dict[str, Any] = {"user_id": login.user.id, "token_scopes": frozenset({SCOPE})}
    for principals in (own_runtime.principals, held_principals(own_runtime, size=0)):
        for _ in range(2):
            found = await principals.find(
                login.session_id, **whom, now=end - timedelta(microseconds=1)
            )
            assert scopes_of(found) == {SCOPE}
        assert scopes_of(await principals.find(login.session_id, **whom, now=end)) == frozenset()
    assert principals.counts == Counts(bypassed=3), "of what nothing is remembered"


async def test_whoever_joins_a_load_late_gets_nothing_that_has_ended_meanwhile(
    own_runtime: Runtime,
) -> None:
    end = own_runtime.now() + timedelta(seconds=60)
    user = await make_user(own_runtime, SCOPE, expires_at=end)
    login = await sign_in(own_runtime, user)
    principals = held_principals(own_runtime)
    async with held(own_runtime) as hold:
        first = asyncio.create_task(find(principals, own_runtime, login))
        await hold.until_held()
        joining = principals.find(
            login.session_id, user_id=user.id, token_scopes=frozenset({SCOPE}), now=end
        )
        second = asyncio.create_task(joining)
        await until(lambda: principals.counts.misses == 2)
    assert scopes_of(await first) == {SCOPE}
    assert scopes_of(await second) == frozenset()


async def test_extending_and_shortening_a_grant_bite_at_once(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    user = await make_user(own_runtime, SCOPE, expires_at=clock() + timedelta(seconds=60))
    login = await sign_in(own_runtime, user)

    async def grant_for(seconds: float) -> None:
        async with own_runtime.work(OPERATOR) as work:
            end = work.now + timedelta(seconds=seconds)
            await grant(work, user.id, SCOPE, expires_at=end)

    async def held_now() -> frozenset[str]:
        return scopes_of(await find(own_runtime.principals, own_runtime, login))

    assert await held_now() == {SCOPE}
    await grant_for(600)
    clock.move(seconds=120)
    assert await held_now() == {SCOPE}, "extended"
    await grant_for(5)
    assert await held_now() == {SCOPE}
    clock.move(seconds=6)
    assert await held_now() == frozenset(), "shortened"


async def test_a_scope_that_is_no_longer_registered_counts_for_no_admin(
    own_runtime: Runtime,
) -> None:
    login = await sign_in(own_runtime, await make_user(own_runtime, "admin"))
    async with own_runtime.engine.begin() as connection:
        await connection.execute(text("INSERT INTO scopes VALUES ('reports', 'Reports')"))

    async def effective() -> frozenset[str]:
        found = await find(own_runtime.principals, own_runtime, login, "reports", SCOPE)
        return scopes_of(found)

    await until_answer(effective, {"reports", SCOPE})
    async with own_runtime.engine.begin() as connection:
        await connection.execute(text("DELETE FROM scopes WHERE name = 'reports'"))
    await until_answer(effective, {SCOPE})


async def until_answer(ask: Any, expected: object) -> None:
    async with asyncio.timeout(60):
        while await ask() != expected:
            await asyncio.sleep(0.005)


async def test_a_session_is_of_its_user_alone(own_runtime: Runtime, alice: Login) -> None:
    stolen = Login(await make_user(own_runtime, SCOPE), alice.session_id)
    for principals in (own_runtime.principals, held_principals(own_runtime, size=0)):
        for _ in range(2):
            assert await find(principals, own_runtime, stolen) is None
            assert await find(principals, own_runtime, alice)


async def test_nobody_is_remembered_where_nothing_was_found(own_runtime: Runtime) -> None:
    unknown = Login(await make_user(own_runtime), uuid.uuid4())
    assert await find(own_runtime.principals, own_runtime, unknown) is None
    assert len(own_runtime.principals) == 0


async def test_a_load_that_fails_is_not_remembered(own_database_url: str) -> None:
    settings = settings_for(own_database_url, database_statement_timeout=0.5)
    async with Runtime.open(settings) as runtime, following(runtime):
        login = await sign_in(runtime, await make_user(runtime, SCOPE))
        async with runtime.engine.connect() as blocking:
            await blocking.execute(text("LOCK TABLE users IN ACCESS EXCLUSIVE MODE"))
            failures = await asyncio.gather(
                *(find(runtime.principals, runtime, login) for _ in range(3)),
                return_exceptions=True,
            )
            await blocking.rollback()
        assert [type(failure) for failure in failures] == [TimeoutError] * 3
        assert scopes_of(await find(runtime.principals, runtime, login)) == {SCOPE}


async def test_whoever_gives_up_waiting_takes_the_answer_from_nobody(
    own_runtime: Runtime, alice: Login
) -> None:
    principals = held_principals(own_runtime)
    async with held(own_runtime) as hold:
        asking = [asyncio.create_task(find(principals, own_runtime, alice)) for _ in range(2)]
        await hold.until_held()
        asking[0].cancel()
        await asyncio.wait([asking[0]])
    assert asking[0].cancelled()
    assert scopes_of(await asking[1]) == {SCOPE}


async def test_loads_under_way_are_given_up_at_the_end(own_runtime: Runtime, alice: Login) -> None:
    other = await sign_in(own_runtime, await make_user(own_runtime, SCOPE))
    principals = held_principals(own_runtime)
    async with held(own_runtime) as hold:
        asking = [
            asyncio.create_task(find(principals, own_runtime, login)) for login in (alice, other)
        ]
        await hold.until_held(loads=2)
        await principals.close()
        assert len(principals) == 0, "and they are over"
        await asyncio.wait(asking)
    assert all(each.cancelled() for each in asking)


async def test_never_more_than_its_size_is_remembered(own_runtime: Runtime) -> None:
    users = [await make_user(own_runtime, SCOPE) for _ in range(3)]
    logins = [await sign_in(own_runtime, user) for user in users for _ in range(4)]
    principals = Principals(own_runtime.sessions, own_runtime.feed, size=5)
    for _ in range(3):
        await asyncio.gather(*(find(principals, own_runtime, login) for login in logins))
        assert len(principals) <= 5
        assert sum(map(len, principals._sessions_of.values())) == len(principals)
        assert all(principals._sessions_of.values()), "no user is kept without a session"
    kept = logins[-1]
    await find(principals, own_runtime, kept)
    for login in logins[:10]:
        await find(principals, own_runtime, login)
        hits = principals.counts.hits
        assert await find(principals, own_runtime, kept)
        assert principals.counts.hits == hits + 1, "what is used is kept"


@pytest.mark.long
async def test_thousands_of_sessions_take_no_more_room_than_the_bound(
    own_runtime: Runtime,
) -> None:
    """And a change of what came last is not missed."""
    count, size = 5_000, 500
    user = await make_user(own_runtime, SCOPE)
    made = text(
        "INSERT INTO sessions (id, user_id, scopes, expires_at, idle_expires_at, "
        "refresh_key) SELECT gen_random_uuid(), :user, '{}', now() + interval '1 day', "
        "now() + interval '1 day', '\\x00' FROM generate_series(1, :count) RETURNING id"
    )
    logins: list[Login] = []
    # In parts, each of which is done within the statement timeout on the busiest machine.
    while len(logins) < count:
        async with own_runtime.engine.begin() as connection:
            rows = await connection.execute(made, {"user": user.id, "count": count // 4})
            logins += [Login(user, row.id) for row in rows]
    principals = Principals(own_runtime.sessions, own_runtime.feed, size=size)
    for start in range(0, count, 500):
        batch = logins[start : start + 500]
        turns = iter(batch)

        async def ask(turns: Any = turns) -> None:
            for login in turns:
                assert await find(principals, own_runtime, login)

        await asyncio.gather(*(ask() for _ in range(5)))
        assert len(principals) <= size
    assert len(principals) == size
    await revoke_elsewhere(own_runtime, user)
    await until(lambda: len(principals) == 0)
    assert principals._sessions_of == {}
    assert scopes_of(await find(principals, own_runtime, logins[-1])) == frozenset()


async def test_a_load_is_one_statement(own_runtime: Runtime, alice: Login) -> None:
    with statements_of(own_runtime) as statements:
        async with own_runtime.sessions() as db:
            holder = await load_holder(
                db, alice.session_id, user_id=alice.user.id, now=own_runtime.now()
            )
    assert holder is not None
    assert len(statements) == 1
    async with own_runtime.sessions() as db:
        row = await db.get_one(Session, alice.session_id)
    assert holder.ends_at == row.idle_expires_at
