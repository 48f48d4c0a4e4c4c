"""FastAPI: the dependency that names a route's scopes, its challenges, and OpenAPI."""

from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.openapi.models import OAuth2, OAuthFlowPassword, OAuthFlows
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase

from scopegate_client.client import Scopegate
from scopegate_client.principals import InvalidToken, Principal, Unavailable

WELL_KNOWN = "/.well-known/oauth-protected-resource"


class CurrentPrincipal(SecurityBase):
    """Whom a request is from, if its token holds all scopes that the route names."""

    scheme_name = "Scopegate"

    def __init__(self, scopegate: Scopegate) -> None:
        self._scopegate = scopegate
        self._shown_in: WeakSet[FastAPI] = WeakSet()
        flow = OAuthFlowPassword(tokenUrl=f"{scopegate.issuer}/token")
        self.model = OAuth2(flows=OAuthFlows(password=flow))

    async def __call__(self, request: Request, required: SecurityScopes) -> Principal:
        """Return the principal. Raises HTTPException: 400, 401 or 403 (RFC 6750 §3), or 503."""
        scopegate = self._scopegate
        principal = scopegate.stand_in
        if principal is None:
            token = self._bearer_token(request)
            try:
                principal = await scopegate.check(token)
            except InvalidToken:
                raise self._refusal(401, "The token is not valid.", "invalid_token") from None
            except Unavailable:
                raise HTTPException(
                    503, "Tokens can't be checked just now.", {"Retry-After": "1"}
                ) from None
        if not principal.scopes.issuperset(required.scopes):
            needs = f'scope="{required.scope_str}"'
            raise self._refusal(403, "A scope is missing.", "insufficient_scope", needs)
        return principal

    def show_scopes(self, app: object) -> None:
        """Have the app's OpenAPI list the scopes that its routes name, for Swagger's Authorize."""
        if not isinstance(app, FastAPI) or app in self._shown_in:
            return
        self._shown_in.add(app)
        generate = app.openapi

        def openapi() -> dict[str, Any]:
            document = generate()
            scheme = document.get("components", {}).get("securitySchemes", {}).get(self.scheme_name)
            if scheme is not None:
                operations = [each for path in document["paths"].values() for each in path.values()]
                needs = [need for each in operations for need in each.get("security", ())]
                named = {scope for need in needs for scope in need.get(self.scheme_name, ())}
                scheme["flows"]["password"]["scopes"] = dict.fromkeys(sorted(named), "")
            return document

        app.openapi = openapi  # type: ignore[method-assign]

    def _bearer_token(self, request: Request) -> str:
        given = request.headers.getlist("authorization")
        if len(given) > 1:
            raise self._refusal(400, "Send one Authorization header.", "invalid_request")
        scheme, _, token = given[0].strip(" ").partition(" ") if given else ("", "", "")
        if scheme.lower() != "bearer":
            raise self._refusal(401, "Not authenticated.")
        return token.lstrip(" ")

    def _refusal(self, status: int, detail: str, error: str = "", *more: str) -> HTTPException:
        # Without a token there is no error to name (RFC 6750 §3.1).
        given = [f'error="{error}"' if error else "", *more, self._metadata()]
        challenge = " ".join(["Bearer", ", ".join(filter(None, given))]).strip()
        return HTTPException(status, detail, {"WWW-Authenticate": challenge})

    def _metadata(self) -> str:
        if self._scopegate.resource is None:
            return ""
        return f'resource_metadata="{metadata_url(self._scopegate.resource)}"'


def metadata_url(resource: str) -> str:
    """Return where the metadata of a resource is (RFC 9728 §3.1)."""
    parts = urlsplit(resource)
    path = WELL_KNOWN + parts.path.removesuffix("/")
    return parts._replace(path=path).geturl()


def metadata_router(scopegate: Scopegate, *scopes: str) -> APIRouter:
    """Return the route of this service's metadata (RFC 9728 §2): where its tokens come from.

    Raises ValueError when `scopegate` has no `resource`.
    """
    if scopegate.resource is None:
        raise ValueError("metadata is that of a resource: Scopegate(…, resource=…)")
    metadata: dict[str, Any] = {
        "resource": scopegate.resource,
        "authorization_servers": [scopegate.issuer],
        "scopes_supported": list(scopes),
        "bearer_methods_supported": ["header"],
    }
    router = APIRouter()

    @router.get(urlsplit(metadata_url(scopegate.resource)).path, include_in_schema=False)
    async def protected_resource_metadata() -> dict[str, Any]:
        return metadata

    return router
