"""Routes that find their caller before they read a request, and the way to a route by its path."""

import copy
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import replace
from inspect import iscoroutinefunction
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from app.api.security import FOUND, current_principal, find_principal, public

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

REQUEST = "scopegate_request"
"""The name under which FastAPI hands a request to `_with_principal`."""


class CallerFirstRoute(APIRoute):
    """A route that finds its caller before it reads the request.

    FastAPI reads and parses a body before it solves any dependency, also for clients without a
    token. To solve `current_principal` takes it longer than finding the principal does. So the
    route finds the principal first, and hands it to the endpoint itself.

    FastAPI solves everything in its own way where that can't be done: on a route that is included
    with further dependencies, and while a test overrides dependencies.

    Every GET answers HEAD too (RFC 9110 §9.1). FastAPI leaves that out, and would show it in
    OpenAPI as an operation of its own. The server sends no body.
    """

    required: tuple[str, ...] | None = None
    """The scopes that it asks a principal for; None: it asks for no principal.

    Set at start-up, when the dependencies of all routers around the route are known.
    """

    def get_route_handler(self) -> Handler:
        """Return what handles a request, with the caller found first."""
        # FastAPI calls this again for each inclusion, whose dependencies only it knows.
        included = hasattr(self, "app")
        as_declared = super().get_route_handler()
        for_anyone = as_declared if included else self._solving(_without(self, {public}))
        marks = {public, current_principal}
        for_principal = as_declared if included else self._solving(_without(self, marks))

        async def find_caller_first(request: Request) -> Response:
            app = request.scope["app"]
            if app.dependency_overrides:
                handle = as_declared if included else self._solving(self.dependant, app)
                return await handle(request)
            if self.required is None:
                return await for_anyone(request)
            await find_principal(request, self.required)
            return await for_principal(request)

        return find_caller_first

    def _solving(self, dependant: Dependant, overriding: object = None) -> Handler:
        """Return FastAPI's own handler of this route, which solves these dependencies."""
        route = copy.copy(self)
        route.dependant, route.dependency_overrides_provider = dependant, overriding
        return APIRoute.get_route_handler(route)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether the route takes the request."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        return super().matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or raise that its method is not allowed."""
        if scope["method"] == "HEAD" and "GET" in (self.methods or ()):
            await self.app(scope, receive, send)
        else:
            await super().handle(scope, receive, send)


def _without(route: APIRoute, marks: Collection[object]) -> Dependant:
    """Return the route's dependencies without these marks, whose work is done already.

    The endpoint still gets the principal, under each name that it has for it.
    """
    dependant = route.dependant
    endpoint = dependant.call
    names = [each.name for each in dependant.dependencies if each.call in marks and each.name]
    rest = [each for each in dependant.dependencies if each.call not in marks]
    if not names:
        return replace(dependant, dependencies=rest)
    if not iscoroutinefunction(endpoint):
        return dependant
    request_name = dependant.request_param_name or REQUEST

    async def with_principal(**values: Any) -> Any:
        request = values[request_name] if dependant.request_param_name else values.pop(REQUEST)
        principal = request.scope[FOUND]
        return await endpoint(**values, **dict.fromkeys(names, principal))

    return replace(
        dependant, dependencies=rest, call=with_principal, request_param_name=request_name
    )


class OAuthRoute(CallerFirstRoute):
    """A route of OAuth's own, whose errors have the format of RFC 6749 §5.2."""


class Router(APIRouter):
    """A router whose routes find their caller first."""

    def __init__(self, *, route_class: type[APIRoute] = CallerFirstRoute, **options: Any) -> None:
        super().__init__(
            route_class=route_class, generate_unique_id_function=operation_id, **options
        )


def operation_id(route: APIRoute) -> str:
    """Return what OpenAPI, and so a generated client, calls the operation: "list_users"."""
    return (route.summary or route.name).lower().replace(" ", "_")


class RoutesByPath(BaseRoute):
    """Finds a route by its path, where the path has no parameters: FastAPI tries one by one.

    It takes only what the route that it finds takes. For all else, the others are tried.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        routes = list(routes)
        self._found: dict[tuple[str, str], APIRoute] = {}
        for route in routes:
            if isinstance(route, APIRoute) and "{" not in route.path:
                for method in route.methods or ():
                    first = _first_match(routes, route.path, method)
                    if isinstance(first, APIRoute):
                        self._found[method, route.path] = first

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether a route was found that takes the request."""
        if scope["type"] == "http":
            path: str = scope["path"].removeprefix(scope.get("root_path", ""))
            route = self._found.get((scope["method"], path))
            if route is not None:
                match, child_scope = route.matches(scope)
                if match is Match.FULL:
                    return match, child_scope
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the route that was found answer."""
        await scope["route"].handle(scope, receive, send)


def _first_match(routes: Iterable[BaseRoute], path: str, method: str) -> BaseRoute | None:
    """Return the route that FastAPI would choose."""
    scope = {"type": "http", "path": path, "root_path": "", "method": method, "headers": []}
    return next((each for each in routes if each.matches(dict(scope))[0] is Match.FULL), None)
