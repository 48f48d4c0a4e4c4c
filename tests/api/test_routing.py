"""Routes that hand the caller to the endpoint, and the way to a route by its path."""

from types import SimpleNamespace
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Security
from fastapi.routing import APIRoute
from starlette.routing import Match

from app import main
from app.access.authority import Caller
from app.access.holders import Principal
from app.api.routing import Router, RoutesByPath
from app.api.security import (
    PUBLIC,
    AnyPrincipal,
    CanReadItems,
    current_caller,
    current_principal,
)
from app.runtime import Runtime
from app.settings import Settings
from tests.support.factories import bearer, make_user, signed_in

SCOPES = {"read:items"}


def app_of(runtime: Runtime, router: APIRouter) -> FastAPI:
    """The app with routes of another developer, which come first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "ROUTERS", (SimpleNamespace(router=router), *main.ROUTERS))
        app = main.create_app(runtime.settings)
    app.state.runtime = runtime
    return app


def client_of(app: FastAPI) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://scopegate.test")


def routes() -> Router:
    """Each way in which an endpoint can ask for its principal."""
    router = Router()

    @router.get("/plain")
    async def plain(principal: CanReadItems) -> str:
        return principal.username

    @router.get("/with-a-request")
    async def with_a_request(request: Request, principal: AnyPrincipal) -> list[str]:
        return [request.url.path, principal.username]

    @router.get("/with-parameters/{number}")
    async def with_parameters(number: int, principal: AnyPrincipal, q: str = "-") -> list[Any]:
        return [number, q, principal.username]

    @router.get("/not-async")
    def not_async(principal: AnyPrincipal) -> str:
        return principal.username

    @router.get("/caller")
    async def caller(
        caller: Annotated[Caller, Security(current_caller, scopes=["read:items"])],
    ) -> str:
        return str(caller.user_id)

    @router.get(
        "/on-the-decorator", dependencies=[Security(current_principal, scopes=["read:items"])]
    )
    async def on_the_decorator() -> str:
        return "in"

    @router.get("/public", dependencies=[PUBLIC])
    async def public() -> str:
        return "in"

    return router


PATHS = {
    "/plain": '"{name}"',
    "/with-a-request": '["/with-a-request","{name}"]',
    "/with-parameters/7?q=x": '[7,"x","{name}"]',
    "/not-async": '"{name}"',
    "/caller": '"{id}"',
    "/on-the-decorator": '"in"',
}


@pytest.mark.parametrize(("path", "body"), PATHS.items())
async def test_an_endpoint_gets_its_principal_however_it_asks_for_it(
    client: httpx2.AsyncClient, runtime: Runtime, path: str, body: str
) -> None:
    user = await make_user(runtime, *SCOPES)
    token = await bearer(client, user)
    async with client_of(app_of(runtime, routes())) as own:
        assert (await own.get(path)).status_code == 401
        answer = await own.get(path, headers=token)
        assert (answer.status_code, answer.text) == (
            200,
            body.format(name=user.username, id=user.id),
        )
        if path in {"/plain", "/caller", "/on-the-decorator"}:
            weak = await bearer(client, await make_user(runtime))
            assert (await own.get(path, headers=weak)).status_code == 403
        assert (await own.get("/public")).text == '"in"'


@pytest.mark.parametrize(("path", "body"), PATHS.items())
async def test_a_test_may_override_who_the_principal_is(
    runtime: Runtime, path: str, body: str
) -> None:
    user = await make_user(runtime, *SCOPES)
    principal = (await signed_in(runtime, user, *SCOPES)).principal
    app = app_of(runtime, routes())

    async def somebody() -> Principal:
        assert principal is not None
        return principal

    app.dependency_overrides[current_principal] = somebody
    async with client_of(app) as own:
        answer = await own.get(path)
        assert (answer.status_code, answer.text) == (
            200,
            body.format(name=user.username, id=user.id),
        )


async def test_an_override_of_something_else_lets_nobody_in(runtime: Runtime) -> None:
    app = app_of(runtime, routes())
    app.dependency_overrides[current_caller] = lambda: None
    async with client_of(app) as own:
        for path in PATHS:
            if path != "/caller":
                assert (await own.get(path)).status_code == 401, path


async def test_dependencies_of_an_inclusion_are_solved_too(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    ran: list[str] = []
    outer = Router()

    async def note(request: Request) -> None:
        ran.append(request.url.path)

    outer.include_router(routes(), prefix="/in", dependencies=[Depends(note)])
    token = await bearer(client, await make_user(runtime, *SCOPES))
    async with client_of(app_of(runtime, outer)) as own:
        assert (await own.get("/in/plain", headers=token)).status_code == 200
        assert (await own.get("/in/plain")).status_code == 401
    assert ran == ["/in/plain"]


async def test_a_route_that_no_start_up_has_checked_lets_nobody_in(runtime: Runtime) -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.runtime = runtime
    app.router.routes.extend(routes().routes)
    async with client_of(app) as own:
        for path in PATHS:
            answer = await own.get(path)
            assert answer.status_code >= 400, path


def _literal_routes() -> list[tuple[str, str]]:
    app = main.create_app(Settings(_env_file=None))
    return [
        (method, route.path)
        for route in app.routes
        if isinstance(route, APIRoute) and "{" not in route.path
        for method in sorted(route.methods or ())
    ]


@pytest.mark.parametrize(("method", "path"), _literal_routes())
def test_the_way_by_path_leads_to_the_route_that_the_router_chooses(method: str, path: str) -> None:
    by_path, *others = main.create_app(Settings(_env_file=None)).routes
    assert isinstance(by_path, RoutesByPath)
    for root in ("", "/auth"):
        scope = {"type": "http", "method": method, "path": root + path, "root_path": root}
        scope["headers"] = []  # type: ignore[assignment]
        chosen = next(
            found["route"]
            for match, found in (each.matches(dict(scope)) for each in others)
            if match is Match.FULL
        )
        match, found = by_path.matches(dict(scope))
        assert (match, found["route"]) == (Match.FULL, chosen)


def test_a_path_with_a_parameter_that_comes_first_is_chosen_first() -> None:
    router = Router()

    @router.get("/{name}", dependencies=[PUBLIC])
    async def any_name(name: str) -> str:
        return name

    @router.get("/me", dependencies=[PUBLIC])
    async def me() -> str:
        return "me"

    scope = {"type": "http", "method": "GET", "path": "/me", "root_path": "", "headers": []}
    _, found = RoutesByPath(router.routes).matches(scope)
    assert found["route"].endpoint is any_name
