"""Codes under real concurrency: two processes' worth of requests, on real connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx2
import pytest
from sqlalchemy import func, select

from app.access.client_registry import change_client, delete_client
from app.access.consents import withdraw_consent
from app.identity.models import Session
from app.runtime import Runtime
from tests.conftest import client_of, following, settings_for
from tests.support.browsing import Application, PersonsBrowser, answered, register
from tests.support.factories import OPERATOR, Someone, make_user
from tests.support.processes import until

AT_ONCE = 50


@pytest.fixture
async def alice(own_runtime: Runtime) -> Someone:
    return await make_user(own_runtime, "read:items", "write:items", username="Alice")


@pytest.fixture
async def app(own_runtime: Runtime) -> Application:
    return await register(own_runtime)


@pytest.fixture
async def signed_in(own_runtime: Runtime, alice: Someone) -> AsyncIterator[PersonsBrowser]:
    browser = PersonsBrowser.of(own_runtime)
    async with browser.client:
        await browser.sign_in(alice)
        yield browser


@pytest.fixture
async def replicas(
    own_runtime: Runtime, own_database_url: str
) -> AsyncIterator[list[httpx2.AsyncClient]]:
    """Two runtimes on one database, as two processes have them."""
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(
            Runtime.open(settings_for(own_database_url), now=own_runtime.now)
        )
        await stack.enter_async_context(following(other))
        yield [await stack.enter_async_context(client_of(each)) for each in (own_runtime, other)]


async def test_of_fifty_redemptions_at_once_one_wins_and_a_later_one_ends_it(
    signed_in: PersonsBrowser,
    app: Application,
    replicas: list[httpx2.AsyncClient],
    own_runtime: Runtime,
) -> None:
    for _ in range(5):
        code = await signed_in.code(app)
        answers = await asyncio.gather(
            *(app.redeem(replicas[number % 2], code) for number in range(AT_ONCE))
        )
        statuses = [each.status_code for each in answers]
        assert statuses.count(200) == 1
        assert set(statuses) <= {200, 400}, "no error of ours"
        assert {each.json()["error"] for each in answers if each.status_code == 400} == {
            "invalid_grant"
        }
        (won,) = [each.json() for each in answers if each.status_code == 200]
        header = {"Authorization": f"Bearer {won['access_token']}"}
        # The others were valid too, and came after: somebody else has the code.
        for replica in replicas:
            assert (await replica.get("/users/me", headers=header)).status_code == 401
    async with own_runtime.sessions() as db:
        alive = select(func.count()).where(Session.client_id == "app", Session.ended_at.is_(None))
        assert await db.scalar(alive) == 0


async def test_of_many_decisions_on_one_page_one_gives_a_code(
    own_runtime: Runtime, signed_in: PersonsBrowser
) -> None:
    tool = await register(own_runtime, "tool", redirect_uris=["http://127.0.0.1/"])
    page = await signed_in.authorize(tool)
    answers = await asyncio.gather(*(signed_in.decide(page) for _ in range(20)))
    locations = [each.headers["location"] for each in answers]
    assert len([each for each in locations if "code=" in each.partition("?")[2][:5]]) == 1
    assert {each.status_code for each in answers} == {303}


async def test_every_replica_stops_at_once_when_a_ceiling_falls_a_client_goes_or_a_consent(
    own_runtime: Runtime,
    signed_in: PersonsBrowser,
    app: Application,
    replicas: list[httpx2.AsyncClient],
    alice: Someone,
) -> None:
    tokens = await signed_in.let_in(app, scope="read:items write:items")

    async def statuses(path: str) -> set[int]:
        found = [await each.get(path, headers=tokens.header) for each in replicas]
        return {each.status_code for each in found}

    async def end_in(expected: int, path: str) -> None:
        async with asyncio.timeout(5):
            while await statuses(path) != {expected}:
                await asyncio.sleep(0.005)

    assert await statuses("/items") == {200}
    async with own_runtime.work(OPERATOR) as work:
        await change_client(work, "app", {"scopes": ["write:items"]})
    await end_in(403, "/items")
    async with own_runtime.work(OPERATOR) as work:
        await change_client(work, "app", {"scopes": None})
    await end_in(200, "/items")
    async with own_runtime.work(OPERATOR.signed_in_as(alice.id)) as work:
        await withdraw_consent(work, "app")
    await end_in(401, "/items")
    tokens = await signed_in.let_in(app)
    assert await statuses("/items") == {200}
    async with own_runtime.work(OPERATOR) as work:
        await delete_client(work, "app")
    await end_in(401, "/items")


async def test_a_client_that_changes_touches_its_own_sessions_alone(
    own_runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    other = await register(own_runtime, "other")
    tokens = await signed_in.let_in(app)
    others = await signed_in.let_in(other)
    assert await tokens.works()
    assert await others.works()
    remembered = own_runtime.principals.counts.forgotten
    async with own_runtime.work(OPERATOR) as work:
        await change_client(work, "other", {"scopes": ["read:items"]})
    await until(lambda: own_runtime.principals.counts.forgotten > remembered)
    assert own_runtime.principals.counts.forgotten == remembered + 1


async def test_withdrawing_while_a_code_is_redeemed_leaves_no_session_alive(
    own_runtime: Runtime, signed_in: PersonsBrowser, app: Application, alice: Someone
) -> None:
    async def withdraw() -> None:
        async with own_runtime.work(OPERATOR.signed_in_as(alice.id)) as work:
            await withdraw_consent(work, "app")

    for _ in range(20):
        code = answered(await signed_in.decide(await signed_in.authorize(app, prompt="consent")))[
            "code"
        ]
        answer, _ = await asyncio.gather(app.redeem(signed_in.client, code), withdraw())
        assert answer.status_code in {200, 400}
        if answer.status_code == 200:
            header = {"Authorization": f"Bearer {answer.json()['access_token']}"}
            got = await signed_in.client.get("/users/me", headers=header)
            assert got.status_code == 401
