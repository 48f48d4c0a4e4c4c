"""grant_type=refresh_token, by the contract."""

from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from app.access.grants import grant, revoke
from app.audit.models import AuditEntry
from app.identity.account_writes import create_service, disable_user, enable_user
from app.identity.models import Session
from app.runtime import Runtime
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, PASSWORD, Someone, login, make_user

pytestmark = pytest.mark.every_token_kind

Pair = dict[str, Any]


@pytest.fixture
async def alice(runtime: Runtime) -> Someone:
    return await make_user(runtime, "read:items", "write:items", username="Alice")


@pytest.fixture
async def pair(client: httpx2.AsyncClient, alice: Someone) -> Pair:
    return await pair_of(await login(client, alice))


async def pair_of(answer: httpx2.Response) -> Pair:
    assert answer.status_code == 200, answer.text
    pair: Pair = answer.json()
    return pair


async def refresh(client: httpx2.AsyncClient, pair: Pair, **form: str) -> httpx2.Response:
    data = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"], **form}
    return await client.post("/token", data=data)


async def assert_refused(answer: httpx2.Response, code: str = "invalid_grant") -> None:
    assert (answer.status_code, answer.json()["error"]) == (400, code), answer.text


async def status_of(client: httpx2.AsyncClient, pair: Pair, path: str = "/users/me") -> int:
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    return (await client.get(path, headers=headers)).status_code


async def test_refresh_gives_a_new_pair_of_the_same_session(
    client: httpx2.AsyncClient, pair: Pair
) -> None:
    for _ in range(3):
        fresh = await pair_of(await refresh(client, pair))
        assert fresh["scope"] == "read:items write:items"
        assert fresh["refresh_token"] != pair["refresh_token"]
        assert await status_of(client, fresh) == 200
        pair = fresh


async def test_scopes_are_those_of_login_intersected_with_granted_now(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone, pair: Pair
) -> None:
    async with runtime.work(OPERATOR) as work:
        await revoke(work, alice.id, "write:items")
        await grant(work, alice.id, "read:users")
    pair = await pair_of(await refresh(client, pair))
    assert pair["scope"] == "read:items"
    await assert_refused(await refresh(client, pair, scope="write:items"), "invalid_scope")
    async with runtime.work(OPERATOR) as work:
        await grant(work, alice.id, "write:items")
    pair = await pair_of(await refresh(client, pair))
    assert pair["scope"] == "read:items write:items"
    async with runtime.work(OPERATOR) as work:
        for scope in ("read:items", "write:items"):
            await revoke(work, alice.id, scope)
    assert (await pair_of(await refresh(client, pair)))["scope"] == ""


async def test_asking_less_narrows_the_access_token_and_not_the_session(
    client: httpx2.AsyncClient, pair: Pair
) -> None:
    narrow = await pair_of(await refresh(client, pair, scope="read:items"))
    assert narrow["scope"] == "read:items"
    assert (await pair_of(await refresh(client, narrow)))["scope"] == "read:items write:items"


async def test_asking_more_than_was_issued_is_invalid_scope_and_the_token_stays_good(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    pair = await pair_of(await login(client, alice, scope="read:items"))
    for scope in ("write:items", "read:items write:items", "no:such", "bad\\scope"):
        await assert_refused(await refresh(client, pair, scope=scope), "invalid_scope")
    await pair_of(await refresh(client, pair))


async def test_an_admins_session_may_be_narrowed_to_any_registered_scope(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    pair = await pair_of(await login(client, await make_user(runtime, "admin")))
    narrow = await pair_of(await refresh(client, pair, scope="read:items"))
    assert narrow["scope"] == "read:items"
    assert (await pair_of(await refresh(client, narrow)))["scope"] == "admin"


async def test_reuse_ends_the_session_and_that_survives_the_400(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone, pair: Pair, clock: MovableClock
) -> None:
    successor = await pair_of(await refresh(client, pair))
    clock.move(seconds=61)
    await assert_refused(await refresh(client, pair))
    assert await status_of(client, successor) == 401
    await assert_refused(await refresh(client, successor))
    async with runtime.sessions() as db:
        (ended,) = await db.scalars(select(Session))
        assert ended.end_reason == "refresh token reused"
        for action in ("session.reuse_detected", "session.ended"):
            (entry,) = await db.scalars(select(AuditEntry).where(AuditEntry.action == action))
            assert (entry.subject, entry.detail["session"]) == (alice.id, str(ended.id))


async def test_two_generations_back_is_reuse_even_within_the_grace(
    client: httpx2.AsyncClient, pair: Pair
) -> None:
    second = await pair_of(await refresh(client, pair))
    third = await pair_of(await refresh(client, second))
    await assert_refused(await refresh(client, pair))
    assert await status_of(client, third) == 401


async def test_a_disabled_user_gets_nothing_and_enabling_revives_no_old_token(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone, pair: Pair
) -> None:
    async with runtime.work(OPERATOR) as work:
        await disable_user(work, alice.id)
    await assert_refused(await refresh(client, pair))
    assert await status_of(client, pair) == 401
    async with runtime.work(OPERATOR) as work:
        await enable_user(work, alice.id)
    await assert_refused(await refresh(client, pair))
    assert await status_of(client, pair) == 401
    await pair_of(await login(client, alice))


@pytest.mark.parametrize(
    ("days", "refreshed"), [(14.1, False), (30.1, True)], ids=["idle", "absolute"]
)
async def test_sessions_expire_when_idle_and_in_the_end(
    client: httpx2.AsyncClient, pair: Pair, clock: MovableClock, days: float, refreshed: bool
) -> None:
    if refreshed:
        for _ in range(3):
            clock.move(days=9)
            pair = await pair_of(await refresh(client, pair))
        days -= 27
    clock.move(days=days)
    await assert_refused(await refresh(client, pair))
    assert await status_of(client, pair) == 401


async def test_a_session_is_bound_to_the_client_that_signed_in(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    async with runtime.work(OPERATOR) as work:
        _, secret = await create_service(work, username="portal")
        _, other = await create_service(work, username="other")
    portal = {"client_id": "portal", "client_secret": secret.value}
    bound = await pair_of(await login(client, alice, **portal))
    await assert_refused(await refresh(client, bound))
    await assert_refused(await refresh(client, bound, client_id="portal"))
    elsewhere = {"client_id": "other", "client_secret": other.value}
    await assert_refused(await refresh(client, bound, **elsewhere))
    wrong = await refresh(client, bound, client_id="portal", client_secret=other.value)
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    await pair_of(await refresh(client, bound, **portal))
    unbound = await pair_of(await login(client, alice))
    await assert_refused(await refresh(client, unbound, **portal))


async def test_the_password_grant_switches_off_and_refresh_goes_on(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone, pair: Pair
) -> None:
    from dataclasses import replace

    from tests.conftest import client_of

    off = replace(runtime, settings=runtime.settings.model_copy(update={"password_grant": False}))
    async with client_of(off) as client:
        answer = await login(client, alice)
        assert answer.json()["error"] == "unsupported_grant_type"
        data = {"username": "Alice", "password": PASSWORD}
        assert (await client.post("/token", data=data)).status_code == 400
        await pair_of(await refresh(client, pair))
        metadata = (await client.get("/.well-known/oauth-authorization-server")).json()
        grants = ["authorization_code", "refresh_token", "client_credentials"]
        assert metadata["grant_types_supported"] == grants
