"""The grace of a used refresh token: how long it lasts, and who in it is noticed or signed out."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import select, text

from app.identity.models import Session
from app.main import create_app
from app.runtime import Runtime
from app.tokens.refresh import Grace
from tests.conftest import client_of, following, settings_for
from tests.support.audit import told
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, SignedIn, Someone, login, make_user, refresh, sign_in
from tests.support.faults import OwnPostgres
from tests.support.processes import until

HOME, ABROAD = "192.0.2.1", "198.51.100.7"
BROWSER, SCRIPT = "Mozilla/5.0 (a browser)", "curl/8.5.0"


@pytest.fixture
async def alice(runtime: Runtime) -> Someone:
    return await make_user(runtime, "read:items")


def at(runtime: Runtime, address: str, user_agent: str) -> httpx2.AsyncClient:
    """A client at that address, of that kind."""
    app = create_app(runtime.settings)
    app.state.runtime = runtime
    transport = httpx2.ASGITransport(app=app, client=(address, 50000))
    headers = {"User-Agent": user_agent}
    return httpx2.AsyncClient(transport=transport, base_url="http://a.test", headers=headers)


async def two_holders(
    runtime: Runtime, alice: Someone, *, address: str, user_agent: str
) -> tuple[SignedIn, SignedIn]:
    """The owner, signed in at home by a browser, and a thief elsewhere who has the same token."""
    owner, thief = at(runtime, HOME, BROWSER), at(runtime, address, user_agent)
    pair = (await login(owner, alice)).json()
    return SignedIn(owner, pair), SignedIn(thief, pair)


def with_grace(runtime: Runtime, lasts: timedelta, *, strict: bool) -> Runtime:
    return replace(
        runtime, issuer=replace(runtime.issuer, refresh_grace=Grace(lasts, strict=strict))
    )


async def grace_used(runtime: Runtime) -> list[dict[str, Any]]:
    async with runtime.sessions() as db:
        return [detail for _, _, detail in await told(db, "session.grace_used")]


async def reuse_detected(runtime: Runtime) -> list[dict[str, Any]]:
    async with runtime.sessions() as db:
        return [detail for _, _, detail in await told(db, "session.reuse_detected")]


@pytest.mark.every_token_kind
async def test_by_default_a_lost_answer_can_be_asked_for_again_for_a_minute(
    client: httpx2.AsyncClient, alice: Someone, clock: MovableClock, runtime: Runtime
) -> None:
    assert runtime.settings.refresh_grace == timedelta(seconds=60)
    lost = (await login(client, alice)).json()["refresh_token"]
    first = (await refresh(client, lost)).json()
    clock.move(seconds=12)
    again = await refresh(client, lost)
    assert again.json()["refresh_token"] == first["refresh_token"]
    assert await SignedIn(client, again.json()).works()
    clock.move(seconds=47)
    assert (await refresh(client, lost)).status_code == 200
    clock.move(seconds=2)
    assert (await refresh(client, lost)).status_code == 400, "the grace is not extended by use"
    assert (await refresh(client, first["refresh_token"])).status_code == 400, "it has ended"


async def test_using_the_successor_ends_the_grace_and_using_its_access_token_does_not(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    holder = await sign_in(client, alice)
    first = holder.refresh_token
    assert await holder.refresh() == 200
    assert await holder.status() == 200
    assert await holder.refresh(first) == 200, "the successor is unused"
    assert await holder.refresh() == 200
    assert await holder.refresh(first) == 400
    assert await holder.status() == 401
    assert len(await reuse_detected(runtime)) == 1


async def test_tabs_that_race_through_many_refreshes_stay_signed_in(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    alice = await make_user(own_runtime, "read:items")
    token = (await login(own_client, alice)).json()["refresh_token"]
    for _ in range(5):
        answers = await asyncio.gather(*(refresh(own_client, token) for _ in range(8)))
        assert {answer.status_code for answer in answers} == {200}
        successors = {answer.json()["refresh_token"] for answer in answers}
        assert len(successors) == 1
        (token,) = successors
    assert await grace_used(own_runtime) == [], "all of them are at one address"


@pytest.mark.parametrize("first", ["owner", "thief"])
async def test_a_grace_used_from_another_network_and_user_agent_ends_the_session(
    runtime: Runtime, alice: Someone, first: str
) -> None:
    """Whichever of the two comes first: both are signed out."""
    owner, thief = await two_holders(runtime, alice, address=ABROAD, user_agent=SCRIPT)
    one, other = (owner, thief) if first == "owner" else (thief, owner)
    assert await one.refresh() == 200
    assert await other.refresh() == 400
    assert (await one.status(), await one.refresh()) == (401, 400)
    async with runtime.sessions() as db:
        ended = (await db.scalars(select(Session))).one()
    network = HOME if first == "owner" else ABROAD
    assert await reuse_detected(runtime) == [{"session": str(ended.id), "rotated_from": network}]
    assert ended.end_reason == "refresh token reused"


async def test_a_thief_who_follows_every_refresh_within_the_grace_is_noticed_each_time(
    runtime: Runtime, alice: Someone, clock: MovableClock
) -> None:
    """With the owner's user agent, which is easily copied; they stay signed in both."""
    owner, thief = await two_holders(runtime, alice, address=ABROAD, user_agent=BROWSER)
    for noticed in range(1, 4):
        assert await owner.refresh() == 200
        clock.move(seconds=5)
        assert await thief.refresh() == 200
        entries = await grace_used(runtime)
        assert len(entries) == noticed
        assert entries[-1]["rotated_from"] == HOME
        clock.move(seconds=600)
    assert await reuse_detected(runtime) == []


@pytest.mark.parametrize(
    ("address", "user_agent"),
    [(HOME, BROWSER), (HOME, SCRIPT)],
    ids=["a second tab", "another program at the same address"],
)
async def test_a_grace_used_from_the_same_network_is_nothing_to_notice(
    runtime: Runtime, alice: Someone, address: str, user_agent: str
) -> None:
    owner, other = await two_holders(runtime, alice, address=address, user_agent=user_agent)
    assert [await owner.refresh(), await other.refresh()] == [200, 200]
    assert await grace_used(runtime) == await reuse_detected(runtime) == []


async def test_addresses_of_one_ipv6_64_are_one_network(runtime: Runtime, alice: Someone) -> None:
    one, other = at(runtime, "2001:db8:0:1::1", BROWSER), at(runtime, "2001:db8:0:1::2", SCRIPT)
    token = (await login(one, alice)).json()["refresh_token"]
    assert (await refresh(one, token)).status_code == 200
    assert (await refresh(other, token)).status_code == 200
    assert await grace_used(runtime) == []


async def test_a_grace_that_is_not_strict_only_tells(runtime: Runtime, alice: Someone) -> None:
    lenient = with_grace(runtime, timedelta(seconds=60), strict=False)
    owner, thief = await two_holders(lenient, alice, address=ABROAD, user_agent=SCRIPT)
    assert [await owner.refresh(), await thief.refresh()] == [200, 200]
    async with runtime.sessions() as db:
        ((_, subject, _),) = await told(db, "session.grace_used")
    assert subject == alice.id
    assert await owner.status() == 200


async def test_what_an_earlier_release_has_refreshed_is_compared_with_nothing(
    runtime: Runtime, alice: Someone
) -> None:
    """It leaves the network and user agent of the refresh before standing in the row."""
    owner, traveller = await two_holders(runtime, alice, address=ABROAD, user_agent=SCRIPT)
    assert await owner.refresh() == 200
    async with runtime.work(OPERATOR) as work:
        await work.db.execute(text("UPDATE sessions SET generation = generation + 1"))
    # The traveller has the token that the earlier release has just used.
    assert await traveller.refresh(owner.refresh_token) == 200
    assert await grace_used(runtime) == await reuse_detected(runtime) == []
    assert await traveller.refresh() == 200, "and from here on it is known again"
    assert await owner.refresh() == 400


async def test_a_grace_used_from_another_network_is_counted(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    alice = await make_user(own_runtime, "read:items")
    owner, thief = await two_holders(own_runtime, alice, address=ABROAD, user_agent=BROWSER)
    assert [await owner.refresh(), await thief.refresh()] == [200, 200]
    assert own_runtime.database.audited["session.grace_used"] == 1


async def test_time_in_which_the_database_is_gone_does_not_count(own_postgres: OwnPostgres) -> None:
    """As in a failover: a rotation is committed, its answer lost, and the retries meet 503."""
    settings = settings_for(own_postgres.url, refresh_grace=2, revocation_bound=1)
    async with Runtime.open(settings) as runtime, following(runtime), client_of(runtime) as client:
        lost = (await login(client, await make_user(runtime))).json()["refresh_token"]
        first = (await refresh(client, lost)).json()["refresh_token"]
        await own_postgres.stop()
        for _ in range(4):
            await asyncio.sleep(1)
            assert (await refresh(client, lost)).status_code == 503
        await own_postgres.resume()
        await until(runtime.feed.fresh)
        again = await refresh(client, lost)
        assert again.json()["refresh_token"] == first
        await asyncio.sleep(3)
        assert (await refresh(client, lost)).status_code == 400, "what follows does count"


async def test_the_time_before_a_restart_of_all_replicas_does_not_count(
    own_database_url: str,
) -> None:
    settings = settings_for(own_database_url, refresh_grace=1)
    async with Runtime.open(settings) as before, client_of(before) as client:
        lost = (await login(client, await make_user(before))).json()["refresh_token"]
        first = (await refresh(client, lost)).json()["refresh_token"]
    await asyncio.sleep(2)
    async with Runtime.open(settings) as after, following(after), client_of(after) as client:
        again = await refresh(client, lost)
        assert again.json()["refresh_token"] == first
