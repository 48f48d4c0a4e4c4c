"""GET /forward-auth: a reverse proxy asks whether to let a request pass.

For nginx's auth_request, Traefik's forwardAuth, Caddy's forward_auth and Envoy's ext_authz. The
proxy passes on the request's Authorization header, and lets it pass on a 2xx alone.
"""

from collections.abc import Iterable
from typing import Annotated
from urllib.parse import quote

from fastapi import Query, Request, Response
from pydantic import AfterValidator, Field

from app.access.scopes import IDENTITY, SCOPE_TOKEN, format_scope, parse_scope
from app.api.answers import PROTECTED, refusals
from app.api.routing import Router
from app.api.security import AnyPrincipal
from app.errors import InvalidScope, Refused

PATH = "/forward-auth"
PRINTABLE = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")
"""ASCII that stands for itself in a header."""

router = Router(tags=["gateways"], responses=PROTECTED | refusals(422))


def _is_scopes(text: str) -> str:
    try:
        parse_scope(text)
    except InvalidScope as error:
        # An empty one too: it may be a variable that the proxy's configuration forgot to set.
        raise ValueError(str(error)) from None
    return text


class UnknownParameter(Refused):
    """A parameter that does not exist, perhaps a misspelt `scope`: not to be passed over."""

    text = "The only parameter is scope."


class UnknownScope(Refused):
    """A scope that is not registered, perhaps misspelt. An admin would pass, and only an admin."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(
            f"There is no scope {' '.join(sorted(names))}: register it, or correct the proxy's "
            "configuration. Spaces separate scopes."
        )


Scopes = Annotated[
    str,
    AfterValidator(_is_scopes),
    # No limits of their own: the longest URL that the server reads is one, 4 KiB.
    Field(json_schema_extra={"pattern": f"^ *{SCOPE_TOKEN}( +{SCOPE_TOKEN})* *$"}),
]
RequiredScopes = Annotated[
    list[Scopes],
    Query(
        default_factory=list,
        description="The scopes that the request needs, all of them: space-delimited, or repeated.",
    ),
]


@router.get(PATH, response_class=Response)
async def forward_auth(
    request: Request, principal: AnyPrincipal, scope: RequiredScopes
) -> Response:
    """Whether the bearer token is good now and holds every scope named: 200, else 401 or 403.

    The answer's headers name the user, for the service behind the proxy.
    """
    if request.query_params.keys() - {"scope"}:
        raise UnknownParameter
    required = tuple(dict.fromkeys(" ".join(scope).split()))
    if reserved := IDENTITY.keys() & set(required):
        raise UnknownScope(reserved)
    principal.require(required)
    # An admin would pass also with a misspelt scope, and never notice it. An admin is known to hold
    # every registered scope, so this asks no database.
    if principal.is_admin and (unknown := set(required) - principal.holder.held):
        raise UnknownScope(unknown)
    return Response(
        headers={
            "X-Auth-Request-User": str(principal.user_id),
            # A header is ASCII, and a name need not be.
            "X-Auth-Request-Preferred-Username": quote(principal.username, safe=PRINTABLE),
            "X-Auth-Request-Scope": format_scope(principal.scopes),
        }
    )


# Envoy asks by the method of the request that it has before it.
router.add_api_route(
    PATH,
    forward_auth,
    methods=["POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
    response_class=Response,
    include_in_schema=False,
)
