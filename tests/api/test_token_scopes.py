"""POST /token: which scopes are issued, and how large a token may be."""

from datetime import timedelta

import httpx2
import pytest
from sqlalchemy import update

from app.access.registry import register_scope
from app.identity.models import Session
from app.runtime import Runtime
from app.tokens.jwt import MAX_TOKEN_BYTES
from tests.support.answers import error_of
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, PASSWORD, Someone, login, make_user, refresh

pytestmark = pytest.mark.every_token_kind


@pytest.fixture
async def alice(runtime: Runtime) -> Someone:
    return await make_user(runtime, "read:items", "write:items", username="Alice")


async def test_scopes_are_requested_intersected_with_granted(
    client: httpx2.AsyncClient, alice: Someone
) -> None:
    answer = await login(client, alice, scope="read:items admin")
    assert answer.json()["scope"] == "read:items"
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    me = await client.get("/users/me", headers=headers)
    assert me.json()["scopes"] == ["read:items"]


async def test_no_scope_asked_gives_everything_granted(
    client: httpx2.AsyncClient, alice: Someone
) -> None:
    assert (await login(client, alice)).json()["scope"] == "read:items write:items"
    assert (await login(client, alice, scope="")).json()["scope"] == "read:items write:items"


async def test_nothing_granted_and_nothing_asked_gives_an_empty_scope(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    answer = await login(client, await make_user(runtime))
    assert (answer.status_code, answer.json()["scope"]) == (200, "")


@pytest.mark.parametrize(
    "scope", ["admin", "no:such", "read:items\\", 'read:"items"', "ünï", " ", "read:items\tadmin"]
)
async def test_scopes_not_granted_or_not_legal_are_invalid_scope(
    client: httpx2.AsyncClient, alice: Someone, scope: str
) -> None:
    assert error_of(await login(client, alice, scope=scope)) == (400, "invalid_scope")


async def test_admin_may_ask_for_any_registered_scope_and_gets_just_that(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    root = await make_user(runtime, "admin")
    assert (await login(client, root)).json()["scope"] == "admin"
    assert (await login(client, root, scope="read:items x")).json()["scope"] == "read:items"
    assert error_of(await login(client, root, scope="no:such")) == (400, "invalid_scope")


async def test_expired_grant_is_not_issued(
    client: httpx2.AsyncClient, runtime: Runtime, clock: MovableClock
) -> None:
    user = await make_user(runtime, "read:items", expires_at=clock() + timedelta(seconds=1))
    clock.move(seconds=1)
    assert (await login(client, user)).json()["scope"] == ""


async def test_a_scope_over_4_kib_is_invalid_scope_which_says_to_ask_for_less(
    client: httpx2.AsyncClient, alice: Someone
) -> None:
    refresh_token = (await login(client, alice)).json()["refresh_token"]
    for scope in ("a " * 2049, " " * 4097, "read:items " * 400, "x" * 4097, "é" * 4097):
        for form in (
            {"grant_type": "password", "username": "Alice", "password": PASSWORD},
            {"grant_type": "refresh_token", "refresh_token": refresh_token},
            {"grant_type": "client_credentials"},
        ):
            answer = await client.post("/token", data={**form, "scope": scope})
            if len(answer.request.content) <= 16 * 1024:
                assert error_of(answer) == (400, "invalid_scope")
                assert "ask for less" in answer.json()["error_description"]
    fits = " ".join(["read:items", *(f"x{number}" for number in range(700))])
    assert (await login(client, alice, scope=fits)).json()["scope"] == "read:items"
    assert (await refresh(client, refresh_token)).status_code == 200, "it was not used up"


async def test_a_token_over_7_kib_is_invalid_scope_unless_it_is_opaque(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    names = [f"{number:02}".ljust(128, "x") for number in range(60)]
    async with runtime.work(OPERATOR) as work:
        for name in names:
            await register_scope(work, name, description="")
    user = await make_user(runtime, *names)
    for form in ({}, {"scope": " ".join(names[:30])}):
        answer = await login(client, user, **form)
        if runtime.issuer.opaque or form:
            assert answer.status_code == 200
            assert len(answer.json()["access_token"]) <= MAX_TOKEN_BYTES
        else:
            assert error_of(answer) == (400, "invalid_scope")
            assert "ask for fewer scopes" in answer.json()["error_description"]
            assert "opaque" in answer.json()["error_description"]
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await client.get("/users/me", headers=headers)).status_code == 200


async def test_a_refresh_token_is_not_used_up_for_a_token_that_is_too_large(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    names = [f"{number:02}".ljust(128, "x") for number in range(60)]
    async with runtime.work(OPERATOR) as work:
        for name in names:
            await register_scope(work, name, description="")
    root = await make_user(runtime, "admin")
    token = (await login(client, root)).json()["refresh_token"]
    presented = runtime.issuer.refresh_tokens.read(token)
    assert presented is not None
    many = update(Session).where(Session.id == presented.session_id)
    async with runtime.work(OPERATOR) as work:
        await work.db.execute(many.values(scopes=names))
    if not runtime.issuer.opaque:
        assert error_of(await refresh(client, token)) == (400, "invalid_scope")
    less = {"grant_type": "refresh_token", "refresh_token": token, "scope": names[0]}
    answer = await client.post("/token", data=less)
    assert (answer.status_code, answer.json()["scope"]) == (200, names[0])
