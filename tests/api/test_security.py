"""Scopes on routes: the challenges of RFC 6750, and that what counts is what is granted now."""

from contextlib import nullcontext
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, Security
from sqlalchemy import update

from app.access.grants import grant, revoke
from app.access.scopes import SHIPPED
from app.api.default_deny import refuse_undeclared_routes
from app.api.routing import Router
from app.api.security import PUBLIC, AnyPrincipal, OwnHand, current_principal
from app.errors import ConfigurationError
from app.identity.models import User
from app.main import create_app
from app.runtime import Runtime
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, assert_invalid_token, bearer, make_user
from tests.support.routes import filled

pytestmark = pytest.mark.every_token_kind


async def test_no_credentials_get_a_challenge_without_an_error(client: httpx2.AsyncClient) -> None:
    for headers in ({}, {"Authorization": "Basic Og=="}, {"Authorization": ""}):
        answer = await client.get("/users/me", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="scopegate"'


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é", "e30.e30.", "eyJhbGciOiJub25lIn0.e30."])
async def test_malformed_tokens_are_invalid_token(client: httpx2.AsyncClient, token: str) -> None:
    await assert_invalid_token(client, f"Bearer {token}".encode())


async def test_two_authorization_headers_are_an_invalid_request(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    token = (await bearer(client, await make_user(runtime)))["Authorization"]
    answer = await client.get(
        "/users/me", headers=[("Authorization", token), ("Authorization", token)]
    )
    assert answer.status_code == 400
    assert 'error="invalid_request"' in answer.headers["www-authenticate"]


async def test_short_scopes_name_what_the_route_needs(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    token = await bearer(client, await make_user(runtime, "read:items"))
    answer = await client.post("/items", json={"title": "x"}, headers=token)
    assert answer.status_code == 403
    challenge = answer.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="write:items"' in challenge


async def test_a_scope_granted_but_not_asked_for_is_not_in_the_token(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    user = await make_user(runtime, "read:items", "write:items")
    token = await bearer(client, user, scope="write:items")
    assert (await client.get("/items", headers=token)).status_code == 403


async def test_revoked_grant_stops_a_token_already_issued(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    user = await make_user(runtime, "read:items")
    token = await bearer(client, user)
    assert (await client.get("/items", headers=token)).status_code == 200
    async with runtime.work(OPERATOR) as work:
        assert await revoke(work, user.id, "read:items")
    assert (await client.get("/items", headers=token)).status_code == 403
    async with runtime.work(OPERATOR) as work:
        await grant(work, user.id, "read:items")
    assert (await client.get("/items", headers=token)).status_code == 200


async def test_scope_granted_after_login_is_not_in_the_old_token(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    user = await make_user(runtime)
    token = await bearer(client, user)
    async with runtime.work(OPERATOR) as work:
        await grant(work, user.id, "read:items")
    assert (await client.get("/items", headers=token)).status_code == 403


async def test_disabled_user_is_refused_with_a_token_already_issued(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    user = await make_user(runtime)
    token = await bearer(client, user)
    async with runtime.work(OPERATOR) as work:
        await work.db.execute(
            update(User).where(User.id == user.id).values(disabled_at=runtime.now())
        )
    await assert_invalid_token(client, token["Authorization"])


async def test_token_ends_when_it_said_it_would(
    client: httpx2.AsyncClient, runtime: Runtime, clock: MovableClock
) -> None:
    token = await bearer(client, await make_user(runtime))
    clock.move(seconds=895)
    assert (await client.get("/users/me", headers=token)).status_code == 200
    clock.move(seconds=10)
    await assert_invalid_token(client, token["Authorization"])


async def test_admin_satisfies_every_requirement_until_it_is_revoked(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    root = await make_user(runtime, "admin")
    full = await bearer(client, root)
    narrow = await bearer(client, root, scope="read:items")
    assert (await client.post("/items", json={"title": "x"}, headers=full)).status_code == 201
    assert (await client.get("/items", headers=narrow)).status_code == 200
    assert (await client.post("/items", json={"title": "x"}, headers=narrow)).status_code == 403
    async with runtime.work(OPERATOR) as work:
        await revoke(work, root.id, "admin", force=True)
    assert (await client.get("/items", headers=full)).status_code == 403
    assert (await client.get("/items", headers=narrow)).status_code == 403


def app_with(**route: object) -> FastAPI:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    inner = APIRouter()
    inner.add_api_route("/open", lambda: None, **route)  # type: ignore[arg-type]
    outer = APIRouter(prefix="/nested")
    outer.include_router(inner)
    app.include_router(outer)
    return app


def test_route_that_does_not_say_who_may_call_it_stops_start_up() -> None:
    nobody_said = app_with()
    with pytest.raises(ConfigurationError, match="/nested/open says nowhere"):
        refuse_undeclared_routes(nobody_said, unscoped=frozenset())
    twice = app_with(dependencies=[PUBLIC, Security(current_principal, scopes=["admin"])])
    with pytest.raises(ConfigurationError, match="says more than once"):
        refuse_undeclared_routes(twice, unscoped=frozenset())
    hidden = app_with(dependencies=[Depends(lambda: None)], include_in_schema=False)
    with pytest.raises(ConfigurationError):
        refuse_undeclared_routes(hidden, unscoped=frozenset())
    refuse_undeclared_routes(app_with(dependencies=[PUBLIC]), unscoped=frozenset())


@pytest.mark.parametrize("scopes", [["read:itms"], ["read:items", "read:itms"]])
def test_a_route_that_asks_for_a_scope_that_is_misspelt_stops_start_up(scopes: list[str]) -> None:
    misspelt = app_with(dependencies=[Security(current_principal, scopes=scopes)])
    with pytest.raises(ConfigurationError, match="/nested/open asks for read:itms, which is no"):
        refuse_undeclared_routes(misspelt, unscoped=frozenset())


@pytest.mark.parametrize(("method", "stops"), [("POST", True), ("DELETE", True), ("GET", False)])
@pytest.mark.parametrize("path", ["/users/me", "/users/me/avatar"])
def test_a_route_that_lets_any_token_change_ones_own_account_stops_start_up(
    path: str, method: str, *, stops: bool
) -> None:
    """A personal access token, or a third party's, would pass where a check was forgotten."""

    def app_asking(mark: object) -> FastAPI:
        app, router = FastAPI(openapi_url=None, docs_url=None, redoc_url=None), Router()

        async def endpoint(principal: object) -> None:
            pass

        endpoint.__annotations__["principal"] = mark
        router.add_api_route(path, endpoint, methods=[method])
        app.router.routes.extend(router.routes)
        return app

    refuse_undeclared_routes(app_asking(OwnHand), unscoped=frozenset())
    with pytest.raises(ConfigurationError, match="OwnHand") if stops else nullcontext():
        refuse_undeclared_routes(app_asking(AnyPrincipal), unscoped=frozenset())


def test_plain_starlette_routes_stop_start_up_too() -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_route("/plain", lambda request: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ConfigurationError, match="/plain"):
        refuse_undeclared_routes(app, unscoped=frozenset())


PERMISSIONS = {
    ("POST", "/token"): None,
    ("GET", "/.well-known/jwks.json"): None,
    ("GET", "/health/live"): None,
    ("GET", "/health/ready"): None,
    ("GET", "/.well-known/oauth-authorization-server"): None,
    ("GET", "/.well-known/openid-configuration"): None,
    ("POST", "/revoke"): None,
    ("POST", "/introspect"): ["introspect"],
    ("GET", "/forward-auth"): [],
    ("GET", "/users/me"): [],
    ("POST", "/users/me/password"): [],
    ("GET", "/users/me/sessions"): [],
    ("DELETE", "/users/me/sessions"): [],
    ("DELETE", "/users/me/sessions/{session_id}"): [],
    ("POST", "/users/me/tokens"): [],
    ("GET", "/users/me/tokens"): [],
    ("DELETE", "/users/me/tokens/{token_id}"): [],
    ("GET", "/users/me/applications"): [],
    ("GET", "/userinfo"): ["openid"],
    ("POST", "/userinfo"): ["openid"],
    ("DELETE", "/users/me/applications/{client_id}"): [],
    ("GET", "/clients"): ["read:clients"],
    ("POST", "/clients"): ["write:clients"],
    ("GET", "/clients/{client_id}"): ["read:clients"],
    ("PATCH", "/clients/{client_id}"): ["write:clients"],
    ("DELETE", "/clients/{client_id}"): ["write:clients"],
    ("POST", "/users/me/email"): [],
    ("GET", "/users/me/export"): [],
    ("DELETE", "/users/me"): [],
    ("POST", "/sign-up"): None,
    ("POST", "/email-verification"): None,
    ("POST", "/email-verification/confirm"): None,
    ("POST", "/password-reset"): None,
    ("POST", "/password-reset/confirm"): None,
    ("POST", "/email-change/undo"): None,
    ("POST", "/invitation/accept"): None,
    ("GET", "/users"): ["read:users"],
    ("POST", "/users"): ["write:users"],
    ("GET", "/users/{user_id}"): ["read:users"],
    ("PATCH", "/users/{user_id}"): ["write:users"],
    ("DELETE", "/users/{user_id}"): ["write:users"],
    ("POST", "/users/{user_id}/password"): ["write:users"],
    ("POST", "/users/{user_id}/invitation"): ["write:users"],
    ("GET", "/users/{user_id}/secrets"): ["read:users"],
    ("POST", "/users/{user_id}/secrets"): ["write:users"],
    ("DELETE", "/users/{user_id}/secrets/{secret_id}"): ["write:users"],
    ("GET", "/users/{user_id}/sessions"): ["read:users"],
    ("DELETE", "/users/{user_id}/sessions"): ["write:users"],
    ("DELETE", "/users/{user_id}/sessions/{session_id}"): ["write:users"],
    ("GET", "/users/{user_id}/grants"): ["read:users"],
    ("PUT", "/users/{user_id}/grants/{scope}"): ["write:grants"],
    ("DELETE", "/users/{user_id}/grants/{scope}"): ["write:grants"],
    ("GET", "/scopes"): [],
    ("PUT", "/scopes/{name}"): ["admin"],
    ("DELETE", "/scopes/{name}"): ["admin"],
    ("GET", "/audit"): ["read:audit"],
    ("GET", "/events"): ["read:events"],
    ("GET", "/items"): ["read:items"],
    ("POST", "/items"): ["write:items"],
    ("GET", "/items/{item_id}"): ["read:items"],
    ("PATCH", "/items/{item_id}"): ["write:items"],
    ("DELETE", "/items/{item_id}"): ["write:items"],
}


async def test_openapi_declares_the_scopes_of_every_route(runtime: Runtime) -> None:
    seen = {
        (method.upper(), path): operation["security"][0]["OAuth2PasswordBearer"]
        if "security" in operation
        else None
        for path, operations in create_app(runtime.settings).openapi()["paths"].items()
        for method, operation in operations.items()
    }
    assert seen == PERMISSIONS


@pytest.mark.parametrize(("method", "path"), [key for key, need in PERMISSIONS.items() if need])
async def test_every_scoped_route_refuses_a_token_without_its_scope(
    client: httpx2.AsyncClient, runtime: Runtime, method: str, path: str
) -> None:
    others = SHIPPED.keys() - {"admin", *(PERMISSIONS[method, path] or [])}
    token = await bearer(client, await make_user(runtime, *others))
    body: dict[str, Any] = {"json": {"title": "x"}}
    if path == "/introspect":
        body = {"data": {"token": "x"}}
    answer = await client.request(method, filled(path), headers=token, **body)
    assert answer.status_code == 403
    answer = await client.request(method, filled(path), **body)
    assert answer.status_code == 401
