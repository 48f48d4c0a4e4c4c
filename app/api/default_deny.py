"""Default deny: every route says, once, who may call it, or the app does not start."""

from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from app.access.scopes import OPENID, SHIPPED
from app.api.routing import CallerFirstRoute
from app.api.security import ACCESS_MARKERS, current_principal, own_hand
from app.errors import ConfigurationError

OWN_ACCOUNT = "/users/me"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110 §9.2.1)."""


def refuse_undeclared_routes(app: FastAPI, *, unscoped: frozenset[str]) -> None:
    """Default deny: raise ConfigurationError unless every route says, once, who may call it.

    A route may require only scopes that ship: no user could hold a misspelled one. A route that
    changes the caller's own account must ask for the person themselves. `unscoped` names
    the paths that are not API routes (documents and their files). This also tells each route which
    scopes it requires.
    """
    required: dict[int, tuple[str, ...]] = {}
    for route in iter_route_contexts(app.routes):
        if route.path in unscoped:
            continue
        original, markers = route.original_route, []
        if isinstance(original, APIRoute):
            markers = list(_access_markers(route.dependant))
        if len(markers) != 1:
            how_often = "more than once" if markers else "nowhere"
            raise ConfigurationError(
                f"The route {route.path} says {how_often} who may call it: give it one "
                "Security(current_principal, scopes=[…]) or dependencies=[PUBLIC]"
            )
        mark, scopes = markers[0]
        if unknown := sorted(set(scopes) - SHIPPED.keys() - {OPENID}):
            raise ConfigurationError(
                f"The route {route.path} asks for {', '.join(unknown)}, which is no scope: name it "
                "in SHIPPED in app/access/scopes.py"
            )
        if mark is current_principal:
            asked = required.setdefault(id(original), scopes)
            if not isinstance(original, CallerFirstRoute) or asked != scopes:
                raise ConfigurationError(
                    f"The route {route.path} can't find its caller first: make its router with "
                    "Router of app/api/routing.py, and include it with one set of scopes only"
                )
            if _changes_own_account(original) and not _asks_for(own_hand, route.dependant):
                raise ConfigurationError(
                    f"The route {route.path} changes the caller's own account: let it depend on "
                    "OwnHand or OwnWork of app/api/security.py"
                )
            original.required = scopes


def _access_markers(dependant: Dependant) -> Iterator[tuple[object, tuple[str, ...]]]:
    """Yield each access marker of a route, with the scopes that it requires."""
    if dependant.call in ACCESS_MARKERS:
        inherited, own = dependant.parent_oauth_scopes or (), dependant.own_oauth_scopes or ()
        yield dependant.call, tuple(dict.fromkeys([*inherited, *own]))
    for inner in dependant.dependencies:
        yield from _access_markers(inner)


def _changes_own_account(route: CallerFirstRoute) -> bool:
    """Whether the route may write below OWN_ACCOUNT."""
    is_own = f"{route.path}/".startswith(f"{OWN_ACCOUNT}/")
    return is_own and not SAFE.issuperset(route.methods or ())


def _asks_for(call: object, dependant: Dependant) -> bool:
    return any(each.call is call or _asks_for(call, each) for each in dependant.dependencies)
