"""The live principal: remembered while the feed vouches for it, and never longer."""

import asyncio
import math
import random
import time
import uuid
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.authority import OPERATOR
from app.access.grants import grant, revoke
from app.access.principals import Counts, Principal, Principals, load_holder
from app.db.changes import Change
from app.db.work import Database
from app.identity.account_writes import disable_user
from app.identity.models import Session, User
from app.identity.session_writes import end_session, open_session
from app.runtime import Runtime
from tests.clock import MovableClock
from tests.conftest import following, settings_for
from tests.factories import Someone, make_user
from tests.faults import proxy_to
from tests.holding import HeldSession, held
from tests.processes import until
from tests.statements import statements_of

TERMINATE_FEEDS = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = 'scopegate changes'"
)
SCOPE = "read:items"


@dataclass(frozen=True)
class Login:
    """Somebody's session."""

    user: Someone
    session_id: uuid.UUID


async def sign_in(runtime: Runtime, user: Someone, *, minutes: float = 60) -> Login:
    async with runtime.work(OPERATOR) as work:
        opened = await open_session(
            work,
            user_id=user.id,
            client_id=None,
            scopes={SCOPE},
            lifetime=timedelta(minutes=minutes),
            idle_timeout=timedelta(minutes=minutes),
        )
    return Login(user, opened.id)


async def find(
    principals: Principals, runtime: Runtime, login: Login, *scopes: str
) -> Principal | None:
    return await principals.find(
        login.session_id,
        user_id=login.user.id,
        token_scopes=frozenset(scopes or {SCOPE}),
        now=runtime.now(),
    )


def held_principals(runtime: Runtime, size: int = 10) -> Principals:
    sessions: async_sessionmaker[AsyncSession]
    sessions = async_sessionmaker(runtime.engine, class_=HeldSession)
    return Principals(sessions, runtime.feed, size=size)


def elsewhere(runtime: Runtime) -> Database:
    """The database as another process uses it: this one hears of changes only from there."""
    return replace(runtime.database, publish=lambda _: None)


async def revoke_elsewhere(runtime: Runtime, user: Someone) -> None:
    async with elsewhere(runtime).work(OPERATOR) as work:
        await revoke(work, user.id, SCOPE)


def scopes_of(principal: Principal | None) -> frozenset[str]:
    assert principal is not None
    return principal.scopes


@pytest.fixture
async def alice(own_runtime: Runtime) -> Login:
    return await sign_in(own_runtime, await make_user(own_runtime, SCOPE))


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


async def test_a_revocation_during_a_load_is_neither_overlooked_nor_remembered(
    own_runtime: Runtime, alice: Login
) -> None:
    """Read, revoked, heard, answered: what was read is not the answer, and is not kept."""
    principals = held_principals(own_runtime)
    async with held(own_runtime) as hold:
        asking = asyncio.create_task(find(principals, own_runtime, alice))
        await hold.until_held()
        heard = own_runtime.feed.changes_heard
        await revoke_elsewhere(own_runtime, alice.user)
        await until(lambda: own_runtime.feed.changes_heard > heard)
        assert len(principals) == 0
        later = asyncio.create_task(find(principals, own_runtime, alice))
        await hold.until_held(loads=2)
    assert scopes_of(await asking) == frozenset()
    assert scopes_of(await later) == frozenset()
    assert scopes_of(await find(principals, own_runtime, alice)) == frozenset()


async def test_a_revocation_heard_after_a_load_is_forgotten_then(
    own_database_url: str, own_runtime: Runtime, alice: Login
) -> None:
    """Read, revoked, answered and remembered, heard: within the bound, and no moment longer."""
    async with proxy_to(own_database_url) as direct:
        settings = settings_for(own_database_url, listen_database_url=direct.url)
        async with Runtime.open(settings, now=own_runtime.now) as runtime, following(runtime):
            principals = held_principals(runtime)
            async with held(runtime) as hold:
                asking = asyncio.create_task(find(principals, runtime, alice))
                await hold.until_held()
                direct.swallow()
                heard = runtime.feed.changes_heard
                await revoke_elsewhere(runtime, alice.user)
            assert scopes_of(await asking) == {SCOPE}
            assert len(principals) == 1
            assert runtime.feed.changes_heard == heard
            direct.heal()
            await until(lambda: runtime.feed.changes_heard > heard)
            assert len(principals) == 0
            assert scopes_of(await find(principals, runtime, alice)) == frozenset()


async def test_a_load_is_no_answer_when_the_feed_was_lost_meanwhile(
    own_database_url: str, own_runtime: Runtime, alice: Login
) -> None:
    async with proxy_to(own_database_url) as direct:
        settings = settings_for(
            own_database_url, listen_database_url=direct.url, revocation_bound=2
        )
        async with Runtime.open(settings, now=own_runtime.now) as runtime, following(runtime):
            principals = held_principals(runtime)
            async with held(runtime) as hold:
                asking = asyncio.create_task(find(principals, runtime, alice))
                await hold.until_held()
                direct.swallow()
                await revoke_elsewhere(runtime, alice.user)
                await until(lambda: not runtime.feed.fresh())
            assert scopes_of(await asking) == frozenset()


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


async def test_a_load_that_was_evicted_is_invalidated_by_a_change_all_the_same(
    own_runtime: Runtime, alice: Login
) -> None:
    other = await sign_in(own_runtime, await make_user(own_runtime, SCOPE))
    principals = held_principals(own_runtime, size=1)
    async with held(own_runtime) as hold:
        asking = asyncio.create_task(find(principals, own_runtime, alice))
        await hold.until_held()
        evicting = asyncio.create_task(find(principals, own_runtime, other))
        await hold.until_held(loads=2)
        heard = own_runtime.feed.changes_heard
        await revoke_elsewhere(own_runtime, alice.user)
        await until(lambda: own_runtime.feed.changes_heard > heard)
    assert scopes_of(await asking) == frozenset()
    assert scopes_of(await evicting) == {SCOPE}


async def test_fifty_requests_invalidated_at_once_cause_one_more_load(
    own_runtime: Runtime, alice: Login
) -> None:
    principals = held_principals(own_runtime)
    async with held(own_runtime) as hold:
        asking = [asyncio.create_task(find(principals, own_runtime, alice)) for _ in range(50)]
        await hold.until_held()
        heard = own_runtime.feed.changes_heard
        await revoke_elsewhere(own_runtime, alice.user)
        await until(lambda: own_runtime.feed.changes_heard > heard)
        with statements_of(own_runtime) as statements:
            await hold.release()
            found = await asyncio.gather(*asking)
    assert {scopes_of(each) for each in found} == {frozenset()}
    assert len([each for each in statements if "sessions" in each]) == 1


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


async def test_only_what_a_change_may_touch_is_forgotten(
    own_runtime: Runtime, alice: Login
) -> None:
    other = await sign_in(own_runtime, await make_user(own_runtime, SCOPE))
    principals = own_runtime.principals
    for kind, left in (("keys", 2), ("token", 2), ("session", 1), ("user", 1), ("scopes", 0)):
        for login in (alice, other):
            assert await find(principals, own_runtime, login)
        key = {"session": alice.session_id, "user": alice.user.id}.get(kind)
        forgotten = principals.counts.forgotten
        principals.on_change(Change(kind, key))  # type: ignore[arg-type]
        principals.on_change(Change("session", uuid.uuid4()))
        assert len(principals) == left
        assert principals.counts.forgotten == forgotten + 2 - left


@pytest.mark.long
async def test_twenty_thousand_sessions_take_no_more_room_than_the_bound(
    own_runtime: Runtime,
) -> None:
    """And a change of what came last is not missed."""
    count, size = 20_000, 1_000
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
    for start in range(0, count, 1000):
        batch = logins[start : start + 1000]
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


@pytest.mark.long
async def test_ten_thousand_grants_changed_at_once_are_all_heard(own_runtime: Runtime) -> None:
    """The cached ones among them are forgotten, and only they."""
    user, other = await make_user(own_runtime, SCOPE), await make_user(own_runtime, SCOPE)
    async with own_runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO users (id, username, username_key) SELECT gen_random_uuid(), n, n "
                "FROM generate_series(1, 10000) AS n"
            )
        )
        await connection.execute(
            text(
                "INSERT INTO grants (user_id, scope) SELECT id, 'write:items' FROM users "
                "WHERE id NOT IN (:other, :user)"
            ),
            {"other": other.id, "user": user.id},
        )
    mine, others = await sign_in(own_runtime, user), await sign_in(own_runtime, other)
    principals = Principals(own_runtime.sessions, own_runtime.feed, size=10)
    for login in (mine, others):
        assert scopes_of(await find(principals, own_runtime, login)) == {SCOPE}
    before = own_runtime.feed.changes_heard
    async with own_runtime.engine.begin() as connection:
        await connection.execute(
            text("DELETE FROM grants WHERE user_id <> :other"), {"other": other.id}
        )
    await until(lambda: own_runtime.feed.changes_heard >= before + 10_001)
    assert scopes_of(await find(principals, own_runtime, mine)) == frozenset()
    hits = principals.counts.hits
    assert scopes_of(await find(principals, own_runtime, others)) == {SCOPE}
    assert principals.counts.hits == hits + 1


@dataclass
class Truth:
    """One user whose name is a version: even versions hold the scope, odd ones do not."""

    login: Login
    started: int = 0
    heard: int = 0

    def on_change(self, change: Change) -> None:
        """Each version is told once, in the order of the commits."""
        self.heard += change == Change("user", self.login.user.id)


@pytest.mark.long
async def test_every_answer_was_true_while_it_was_asked_for(own_runtime: Runtime) -> None:
    """Random changes by another process, random questions: each answer is checked.

    None is older than what had been heard before it was asked for, none is of the future, and none
    is half of one version and half of another.
    """
    versions, choose = 200, random.Random(20261125)  # noqa: S311
    principals = Principals(own_runtime.sessions, own_runtime.feed, size=3)
    truths, answers = [], 0
    for _ in range(4):
        user = await make_user(own_runtime, SCOPE, username=f"{uuid.uuid4().hex}-0")
        truths.append(Truth(await sign_in(own_runtime, user)))
    heard = own_runtime.feed.changes_heard
    await revoke_elsewhere(own_runtime, await make_user(own_runtime, SCOPE))
    await until(lambda: own_runtime.feed.changes_heard >= heard + 2)
    for truth in truths:
        own_runtime.feed.subscribe(truth.on_change)

    async def change(truth: Truth) -> None:
        user = truth.login.user
        for version in range(1, versions):
            truth.started = version
            async with elsewhere(own_runtime).work(OPERATOR) as work:
                name = f"{user.username.split('-')[0]}-{version}"
                await work.db.execute(update(User).where(User.id == user.id).values(username=name))
                if version % 2:
                    await revoke(work, user.id, SCOPE)
                else:
                    await grant(work, user.id, SCOPE)
            await asyncio.sleep(choose.random() * 0.02)

    async def ask(truth: Truth) -> None:
        nonlocal answers
        while truth.heard < versions - 1:
            oldest = truth.heard
            found = await find(principals, own_runtime, truth.login)
            assert found is not None
            version = int(found.username.split("-")[1])
            assert oldest <= version <= truth.started
            assert found.scopes == (frozenset() if version % 2 else {SCOPE})
            answers += 1
            await asyncio.sleep(choose.random() * 0.002)

    await asyncio.gather(
        *(change(truth) for truth in truths), *(ask(truth) for truth in truths for _ in range(4))
    )
    for truth in truths:
        found = await find(principals, own_runtime, truth.login)
        assert found is not None
        assert found.username.endswith(f"-{versions - 1}")
    assert answers > versions
    assert principals.counts.hits > 0
    assert principals.counts.forgotten > 0


@pytest.mark.long
async def test_no_permission_outlives_the_bound_while_the_feed_is_killed_again_and_again(
    own_database_url: str,
) -> None:
    """A grant comes and goes by another process while the feed's backend is terminated."""
    bound, versions, choose = 1.0, 150, random.Random(20261125)  # noqa: S311
    settings = settings_for(own_database_url, revocation_bound=bound)
    async with Runtime.open(settings) as runtime, following(runtime):
        user = await make_user(runtime, SCOPE)
        login = await sign_in(runtime, user)
        revoked_at, over = math.inf, False
        answers = {True: 0, False: 0}

        async def change() -> None:
            nonlocal revoked_at, over
            for _ in range(versions):
                await revoke_elsewhere(runtime, user)
                revoked_at = time.monotonic()
                await asyncio.sleep(choose.random() * 0.05)
                if choose.random() < 0.3:
                    async with runtime.engine.begin() as connection:
                        await connection.execute(TERMINATE_FEEDS)
                # Some stay revoked for longer than the bound.
                await asyncio.sleep(bound * 1.2 if choose.random() < 0.03 else 0)
                revoked_at = math.inf
                async with elsewhere(runtime).work(OPERATOR) as work:
                    await grant(work, user.id, SCOPE)
                await asyncio.sleep(choose.random() * 0.02)
            over = True

        async def ask() -> None:
            while not over:
                asked_at, revoked_before = time.monotonic(), revoked_at
                allowed = SCOPE in scopes_of(await find(runtime.principals, runtime, login))
                assert not (allowed and asked_at - revoked_before > bound)
                answers[allowed] += 1
                await asyncio.sleep(0.001)

        await asyncio.gather(change(), *(ask() for _ in range(4)))
        assert min(answers.values()) > 0
        assert runtime.principals.counts.hits > 0
        assert runtime.principals.counts.bypassed > 0, "while the feed was away"
        await until(runtime.feed.fresh)


@pytest.mark.long
async def test_what_is_taken_away_in_this_process_is_gone_in_it_at_once(
    own_runtime: Runtime,
) -> None:
    """Not a message later: whoever revokes here and asks here next is refused."""
    for _ in range(50):
        user = await make_user(own_runtime, SCOPE)
        ended, disabled = await sign_in(own_runtime, user), await sign_in(own_runtime, user)
        for login in (ended, disabled):
            assert await find(own_runtime.principals, own_runtime, login)
        async with own_runtime.work(OPERATOR) as work:
            await revoke(work, user.id, SCOPE)
        assert scopes_of(await find(own_runtime.principals, own_runtime, ended)) == frozenset()
        async with own_runtime.work(OPERATOR) as work:
            await end_session(work, ended.session_id, reason="test")
        assert await find(own_runtime.principals, own_runtime, ended) is None
        async with own_runtime.work(OPERATOR) as work:
            await disable_user(work, user.id)
        assert await find(own_runtime.principals, own_runtime, disabled) is None


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
