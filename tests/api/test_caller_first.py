"""The caller is found before a body is read, on every route, however the route was made."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Body, FastAPI, Request, Security

import app.main
from app.access.holders import Principal
from app.api.default_deny import refuse_undeclared_routes
from app.api.routing import Router
from app.api.security import CAN_INTROSPECT, CanWriteItems, current_principal
from app.errors import ConfigurationError
from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.factories import bearer, make_user
from tests.support.routes import protected_with_body

BODIES = list(protected_with_body())


async def unread() -> AsyncIterator[bytes]:
    """A body that must not be read."""
    raise AssertionError("the body was read")
    yield b""


def test_protected_routes_with_a_body_are_found() -> None:
    found = {(method, path): scopes for method, path, scopes in BODIES}
    assert found["POST", "/items"] == ["write:items"]
    assert found["POST", "/users/me/password"] == []
    assert found["POST", "/introspect"] == ["introspect"]


@pytest.mark.parametrize(("method", "path", "scopes"), BODIES)
async def test_401_and_403_come_before_the_body_is_read(
    client: httpx2.AsyncClient, runtime: Runtime, method: str, path: str, scopes: list[str]
) -> None:
    types = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data", "x"]
    form = path == "/introspect"
    for content_type in types[1:2] if form else types:
        headers = {"Content-Type": content_type}
        forged = {**headers, "Authorization": "Bearer a.b.c"}
        answer = await client.request(method, path, headers=forged, content=unread())
        assert answer.status_code == 401
        if not form:  # its client's secret may be in there
            answer = await client.request(method, path, headers=headers, content=unread())
            assert answer.status_code == 401
        if scopes:
            weak = await bearer(client, await make_user(runtime, "read:items"))
            answer = await client.request(method, path, headers=headers | weak, content=unread())
            assert answer.status_code == 403


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b"x" * 300_000, b'{"title": NaN}', b"\xff"])
async def test_401_and_403_come_before_what_is_wrong_with_a_body(
    client: httpx2.AsyncClient, runtime: Runtime, body: bytes
) -> None:
    json = {"Content-Type": "application/json"}
    weak = await bearer(client, await make_user(runtime, "read:items"))
    strong = await bearer(client, await make_user(runtime, "write:items"))
    assert (await client.post("/items", headers=json, content=body)).status_code == 401
    assert (await client.post("/items", headers=json | weak, content=body)).status_code == 403
    answer = await client.post("/items", headers=json | strong, content=body)
    assert answer.status_code in {400, 413, 422}


async def test_the_caller_is_found_once(client: httpx2.AsyncClient, runtime: Runtime) -> None:
    token = await bearer(client, await make_user(runtime, "write:items", "introspect"))
    for path, body, status in (
        ("/items", {"json": {"title": "x"}}, 201),
        ("/introspect", {"data": {"token": "x"}}, 200),
    ):
        before = runtime.principals.counts.bypassed
        answer = await client.post(path, headers=token, **body)  # type: ignore[arg-type]
        assert answer.status_code == status
        assert runtime.principals.counts.bypassed == before + 1


def _on_the_route(router: APIRouter) -> None:
    @router.post("/x")
    async def route(
        _: Annotated[Principal, Security(current_principal, scopes=["write:items"])],
        body: Annotated[Any, Body()],
    ) -> None: ...


def _by_an_alias(router: APIRouter) -> None:
    @router.post("/x")
    async def route(body: Annotated[Any, Body()], _: CanWriteItems) -> None: ...


def _on_the_router(router: APIRouter) -> None:
    guard = Security(current_principal, scopes=["write:items"])
    inner = Router(prefix="/inner", dependencies=[guard])

    @inner.post("/x")
    async def route(body: Annotated[Any, Body()]) -> None: ...

    router.include_router(inner)


def _where_it_is_included(router: APIRouter) -> None:
    inner = Router()

    @inner.api_route("/x", methods=["POST"])
    async def route(request: Request, body: Annotated[Any, Body()]) -> None: ...

    guard = Security(current_principal, scopes=["write:items"])
    router.include_router(inner, dependencies=[guard])


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (_on_the_route, "/own/x"),
        (_by_an_alias, "/own/x"),
        (_on_the_router, "/own/inner/x"),
        (_where_it_is_included, "/own/x"),
    ],
)
async def test_a_route_of_another_developer_finds_its_caller_first_however_it_is_declared(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, make: Any, path: str
) -> None:
    router = Router(prefix="/own")
    make(router)
    own = SimpleNamespace(router=router)
    monkeypatch.setattr(app.main, "ROUTERS", (*app.main.ROUTERS, own))
    async with client_of(runtime) as client:
        weak = await bearer(client, await make_user(runtime, "read:items"))
        strong = await bearer(client, await make_user(runtime, "write:items"))
        assert (await client.post(path, content=unread())).status_code == 401
        assert (await client.post(path, headers=weak, content=unread())).status_code == 403
        assert (await client.post(path, headers=strong, json={})).status_code == 200


def test_a_route_that_would_read_a_body_first_stops_start_up() -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    plain = APIRouter(prefix="/plain")
    _on_the_route(plain)
    app.include_router(plain)
    with pytest.raises(ConfigurationError, match="/plain/x can't find its caller first"):
        refuse_undeclared_routes(app, unscoped=frozenset())


def test_one_route_with_two_sets_of_scopes_stops_start_up() -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    router = Router()
    router.add_api_route("/x", lambda: None)
    for scope in ("read:items", "write:items"):
        guard = Security(current_principal, scopes=[scope])
        app.include_router(router, prefix=f"/{scope}", dependencies=[guard])
    with pytest.raises(ConfigurationError, match="one set of scopes"):
        refuse_undeclared_routes(app, unscoped=frozenset())


def test_a_route_that_asks_for_no_principal_needs_no_route_class() -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_api_route("/x", lambda: None, dependencies=[CAN_INTROSPECT])
    refuse_undeclared_routes(app, unscoped=frozenset())
