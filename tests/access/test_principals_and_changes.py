"""What is remembered of principals, and changes that come while it is loaded or used."""

import asyncio
import math
import random
import time
import uuid
from dataclasses import dataclass

import pytest
from sqlalchemy import text, update

from app.access.grants import grant, revoke
from app.access.principals import Principals
from app.db.changes import Change
from app.identity.account_writes import disable_user
from app.identity.models import User
from app.identity.session_writes import end_session
from app.runtime import Runtime
from tests.conftest import following, settings_for
from tests.support.factories import OPERATOR, make_user
from tests.support.faults import proxy_to
from tests.support.locks import held
from tests.support.principals import (
    SCOPE,
    Login,
    elsewhere,
    find,
    held_principals,
    revoke_elsewhere,
    scopes_of,
    sign_in,
)
from tests.support.processes import until
from tests.support.statements import statements_of

TERMINATE_FEEDS = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = 'scopegate changes'"
)


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


async def test_a_load_is_no_answer_when_a_client_changed_meanwhile_whose_session_it_may_be(
    own_runtime: Runtime, alice: Login
) -> None:
    principals = held_principals(own_runtime)
    async with held(own_runtime) as hold:
        asking = asyncio.create_task(find(principals, own_runtime, alice))
        await hold.until_held()
        forgotten = principals.counts.forgotten
        principals.on_change(Change("client", uuid.uuid4()))
        assert principals.counts.forgotten == forgotten + 1
    assert scopes_of(await asking) == {SCOPE}, "read anew"


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
