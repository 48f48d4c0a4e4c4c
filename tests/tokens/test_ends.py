"""When a token ends by itself: never later than what it stands on, as far as that is known."""

from datetime import timedelta

import httpx2
import pytest
from jwt import decode

from app.access.grants import grant
from app.access.holdings import first_end
from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, Someone, make_user, sign_in
from tests.support.services import ServiceAccount, make_service
from tests.support.statements import execute

pytestmark = pytest.mark.every_token_kind


@pytest.fixture
async def gateway(runtime: Runtime) -> ServiceAccount:
    return await make_service(runtime, "gateway", "introspect")


async def introspect(
    client: httpx2.AsyncClient, gateway: ServiceAccount, token: str
) -> dict[str, object]:
    form = {"token": token, **gateway.credentials}
    found: dict[str, object] = (await client.post("/introspect", data=form)).json()
    return found


async def ending(runtime: Runtime, user: Someone, scope: str, minutes: float) -> None:
    async with runtime.work(OPERATOR) as work:
        await grant(work, user.id, scope, expires_at=work.now + timedelta(minutes=minutes))


async def test_an_access_token_expires_with_the_first_grant_behind_its_scopes(
    client: httpx2.AsyncClient, runtime: Runtime, gateway: ServiceAccount, clock: MovableClock
) -> None:
    user = await make_user(runtime, "read:users", username="alice")
    await ending(runtime, user, "read:items", 5)
    await ending(runtime, user, "write:items", 2)
    # Of what is not in a token, the end is no end of the token.
    lifetimes = {"read:users": 900, "read:items read:users": 300, "read:items write:items": 120}
    for scope, seconds in lifetimes.items():
        pair = await sign_in(client, user, scope=scope)
        assert seconds - 3 <= pair.tokens["expires_in"] <= seconds
        found = await introspect(client, gateway, pair.token)
        assert isinstance(found["exp"], int)
        assert abs(found["exp"] - clock().timestamp() - seconds) < 3
        assert await pair.refresh() == 200
        assert seconds - 3 <= pair.tokens["expires_in"] <= seconds


async def test_a_service_accounts_token_expires_with_its_grants_too(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    orders = await make_service(runtime, "orders", "read:users")
    await ending(runtime, Someone(orders.id, "orders"), "read:events", 5)
    form = {"grant_type": "client_credentials", **orders.credentials}
    answer = (await client.post("/token", data=form)).json()
    assert 297 <= answer["expires_in"] <= 300


async def test_a_jwt_says_the_same_end_as_the_answer_it_came_in(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    user = await make_user(runtime, username="alice")
    await ending(runtime, user, "read:items", 5)
    pair = await sign_in(client, user)
    if pair.token.startswith("ey"):
        claims = decode(pair.token, options={"verify_signature": False})
        assert abs(claims["exp"] - claims["iat"] - pair.tokens["expires_in"]) <= 1


async def test_introspection_says_the_end_of_a_grant_that_was_set_later(
    client: httpx2.AsyncClient, runtime: Runtime, gateway: ServiceAccount, clock: MovableClock
) -> None:
    user = await make_user(runtime, "read:items", "read:users", username="alice")
    pair, other = await sign_in(client, user), await sign_in(client, user, scope="read:users")
    await ending(runtime, user, "read:items", 1)
    found = await introspect(client, gateway, pair.token)
    assert isinstance(found["exp"], int)
    assert abs(found["exp"] - clock().timestamp() - 60) < 3
    found = await introspect(client, gateway, other.token)
    assert isinstance(found["exp"], int)
    assert found["exp"] - clock().timestamp() > 800


async def test_introspection_says_the_end_of_a_session_that_was_cut_short(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, clock: MovableClock
) -> None:
    gateway = await make_service(own_runtime, "gateway", "introspect")
    pair = await sign_in(own_client, await make_user(own_runtime, "read:items"))
    soon = clock() + timedelta(minutes=1)
    await execute(own_runtime, "UPDATE sessions SET expires_at = :soon", soon=soon)
    found = await introspect(own_client, gateway, pair.token)
    assert isinstance(found["exp"], int)
    assert abs(found["exp"] - soon.timestamp()) <= 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sessions SET ended_at = now() WHERE client_id IS NULL",
        "UPDATE users SET disabled_at = now() WHERE username = 'alice'",
        "DELETE FROM opaque_tokens",
        "UPDATE signing_keys SET retires_at = now() - interval '1 hour'",
    ],
)
async def test_introspection_never_answers_from_memory(
    own_runtime: Runtime, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even in the moment before this process hears of a change."""
    opaque = own_runtime.settings.access_token_format == "opaque"
    async with client_of(own_runtime) as client:
        asker = await make_service(own_runtime, "gateway", "introspect")
        pair = await sign_in(client, await make_user(own_runtime, username="alice"))
        assert await pair.works()
        monkeypatch.setattr(own_runtime.feed, "_hearers", [])
        await execute(own_runtime, statement)
        assert await pair.works(), "it is remembered"
        good = ("opaque" in statement and not opaque) or ("keys" in statement and opaque)
        found = await introspect(client, asker, pair.token)
        assert found["active"] is good


def test_a_scope_that_admin_gives_too_ends_with_the_later_of_the_two(clock: MovableClock) -> None:
    sooner, later = clock(), clock() + timedelta(hours=1)
    granted = {"admin": sooner, "read:items": later, "write:items": None}
    assert first_end(granted, ["read:items"]) == later
    assert first_end(granted, ["read:users"]) == sooner, "by admin alone"
    assert first_end(granted, ["write:items"]) is None
    assert first_end(granted, ["read:items", "read:users"]) == sooner
    assert first_end(granted, []) is None
    assert first_end({}, ["read:items"]) is None
