"""Who may call what. Every route says it, once: a principal with scopes, or `PUBLIC`."""

import hmac
from collections.abc import AsyncIterator
from typing import Annotated, Any, cast

from fastapi import Depends, Request, Security
from fastapi.openapi.models import HTTPBase as HTTPBaseModel
from fastapi.openapi.models import OAuth2 as OAuth2Model
from fastapi.openapi.models import OAuthFlowAuthorizationCode
from fastapi.params import Security as SecurityInFunction
from fastapi.security import OAuth2PasswordBearer, SecurityScopes
from fastapi.security.base import SecurityBase

from app.access.authority import Caller
from app.access.holders import Principal
from app.access.scopes import ADMIN, OPENID, SHIPPED, satisfies
from app.api.dependencies import ActorDep, RuntimeDep, runtime_of
from app.api.forms import FormDep, authenticated_client, split_credentials
from app.db.work import Work
from app.errors import (
    AmbiguousCredentials,
    AuthenticationRequired,
    InsufficientScope,
    InvalidRequest,
    InvalidToken,
    NotFound,
)

bearer = OAuth2PasswordBearer(
    tokenUrl="token",
    scopes=SHIPPED,
    description="Where no scope is ticked, the token gets all that the user holds.",
    auto_error=False,
)
# What /docs signs in by. The class knows the password flow alone.
cast(OAuth2Model, bearer.model).flows.authorizationCode = OAuthFlowAuthorizationCode(
    authorizationUrl="authorize", tokenUrl="token", scopes=SHIPPED
)
FOUND = "scopegate.principal"
"""Where a request's ASGI scope has its principal, once that is found."""


class ClientSecretBasic(SecurityBase):
    """A service account's name and secret by HTTP Basic, for OpenAPI: the form reads them."""

    def __init__(self) -> None:
        self.model = HTTPBaseModel(scheme="basic")
        self.scheme_name = "ClientSecretBasic"

    async def __call__(self) -> None:
        """Nothing: see `api.forms`."""


client_secret_basic = ClientSecretBasic()


def bearer_token(request: Request) -> str | None:
    """The request's bearer token (RFC 6750 §2.1). Raises AmbiguousCredentials."""
    given = request.headers.getlist("authorization")
    if len(given) > 1:
        raise AmbiguousCredentials
    scheme, token = split_credentials(given[0]) if given else ("", "")
    return token if scheme == "bearer" else None


class CurrentPrincipal(SecurityBase):
    """The tutorial's `oauth2_scheme` and `get_current_user` in one.

    They are usually two dependencies. Then FastAPI takes several times longer to solve them than
    the lookup of the token and its principal takes.
    """

    def __init__(self, scheme: OAuth2PasswordBearer) -> None:
        self.model = scheme.model
        self.scheme_name = scheme.scheme_name
        self._scheme = scheme

    async def __call__(self, request: Request, required: SecurityScopes) -> Principal:
        """Return the bearer token's principal, if all scopes that the route names are in force now.

        `api.routing` has mostly found it already. Raises what `find_principal` raises.
        """
        principal: Principal | None = request.scope.get(FOUND)
        if principal is None:
            return await find_principal(request, tuple(required.scopes))
        principal.require(tuple(required.scopes))
        return principal


current_principal = CurrentPrincipal(bearer)


async def find_principal(request: Request, required: tuple[str, ...]) -> Principal:
    """Return the bearer token's principal, if all these scopes are in force now.

    Raises AuthenticationRequired, AmbiguousCredentials, InvalidToken or InsufficientScope.
    """
    token = bearer_token(request)
    if token is None:
        raise AuthenticationRequired
    runtime = runtime_of(request)
    _, principal = await runtime.access_tokens.verify(token, now=runtime.now())
    request.scope["state"]["user_id"] = principal.user_id
    principal.require(required)
    request.scope[FOUND] = principal
    return principal


async def current_caller(
    principal: Annotated[Principal, Depends(current_principal)], actor: ActorDep
) -> Caller:
    """Return the principal as a caller: who, from where, with which scopes."""
    return Caller.of(principal, actor.origin)


async def own_hand(
    principal: Annotated[Principal, Depends(current_principal)],
) -> Principal:
    """Return the principal if it is the person, who has signed in.

    Raises what `Principal.require_own_hand` raises.
    """
    principal.require_own_hand()
    return principal


async def own_work(
    principal: Annotated[Principal, Depends(own_hand)],
    actor: ActorDep,
    runtime: RuntimeDep,
) -> AsyncIterator[Work[Caller]]:
    """Yield the request's unit of work, for what only the person may do to their account."""
    async with runtime.work(Caller.of(principal, actor.origin)) as work:
        yield work


async def caller_work(
    principal: Annotated[Principal, Depends(current_principal)],
    actor: ActorDep,
    runtime: RuntimeDep,
) -> AsyncIterator[Work[Caller]]:
    """Yield the request's unit of work, in the caller's name; it commits after the route."""
    async with runtime.work(Caller.of(principal, actor.origin)) as work:
        yield work


def _may(*scopes: str) -> Any:
    # "function": committed before the answer leaves. FastAPI's default would commit after it, and a
    # failed commit would follow a 201.
    return SecurityInFunction(caller_work, scopes=scopes, scope="function")


async def bearer_first(
    # For OpenAPI: it reads a header more narrowly than `bearer_token`.
    _: Annotated[str | None, Depends(bearer)],
    request: Request,
    required: SecurityScopes,
) -> Principal | None:
    """Return the bearer token's principal, None without such a token.

    Raises what `find_principal` raises.
    """
    if bearer_token(request) is None:
        return None
    return await find_principal(request, tuple(required.scopes))


async def introspecting_caller(
    # Before the form, which FastAPI would read first if it came first.
    principal: Annotated[Principal | None, Depends(bearer_first)],
    required: SecurityScopes,
    _: Annotated[None, Depends(client_secret_basic)],
    form: FormDep,
    actor: ActorDep,
    runtime: RuntimeDep,
) -> AsyncIterator[None]:
    """Accept a service account's secret (RFC 7662 §2.1) or a bearer token, with the scope.

    The route runs while this waits at its `yield`, so a refusal of a right secret there is audited
    too. Raises ClientRefused, Throttled, or what `find_principal` raises.
    """
    if not form.client and principal is None:
        raise AuthenticationRequired
    if form.client and principal is not None:
        raise InvalidRequest("Authenticate in one way, not in two.")
    async with authenticated_client(form, runtime, actor=actor) as client:
        if client is not None and not satisfies(client.granted.keys(), required.scopes):
            raise InsufficientScope(tuple(required.scopes))
        yield


class MetricsOff(NotFound):
    """Metrics are not switched on."""

    text = "Metrics are off: set SCOPEGATE_METRICS_TOKEN to have them."


async def scraper(request: Request, runtime: RuntimeDep) -> None:
    """Let a request with SCOPEGATE_METRICS_TOKEN pass: no user, and no scope.

    Raises MetricsOff, AuthenticationRequired, AmbiguousCredentials or InvalidToken.
    """
    expected = runtime.settings.metrics_token
    if expected is None:
        raise MetricsOff
    token = bearer_token(request)
    if token is None:
        raise AuthenticationRequired
    if not hmac.compare_digest(token.encode(), expected.get_secret_value().encode()):
        raise InvalidToken


async def public() -> None:
    """Mark a route that every client may call."""


async def own_page() -> None:
    """Mark a page of ours: who uses it is known by a cookie, which no other route reads."""


ACCESS_MARKERS = {current_principal, introspecting_caller, scraper, public, own_page}

PUBLIC = Depends(public)
OWN_PAGE = Depends(own_page)
CAN_SCRAPE = Depends(scraper)
CAN_INTROSPECT = Security(introspecting_caller, scopes=["introspect"])

AnyPrincipal = Annotated[Principal, Security(current_principal)]
OwnHand = Annotated[Principal, Security(own_hand)]
"""The person themselves: no third party's client, and no personal access token."""
CanReadItems = Annotated[Principal, Security(current_principal, scopes=["read:items"])]
CanReadUsers = Annotated[Principal, Security(current_principal, scopes=["read:users"])]
CanReadAudit = Annotated[Principal, Security(current_principal, scopes=["read:audit"])]
CanReadClients = Annotated[Principal, Security(current_principal, scopes=["read:clients"])]
CanReadIdentity = Annotated[Principal, Security(current_principal, scopes=[OPENID])]
CanReadEvents = Annotated[Principal, Security(current_principal, scopes=["read:events"])]


# A unit of work in the caller's name. Most routes can write only with one of these.
OwnWork = Annotated[Work[Caller], SecurityInFunction(own_work, scope="function")]
CanWriteItems = Annotated[Work[Caller], _may("write:items")]
CanWriteUsers = Annotated[Work[Caller], _may("write:users")]
CanWriteGrants = Annotated[Work[Caller], _may("write:grants")]
CanWriteClients = Annotated[Work[Caller], _may("write:clients")]
CanWriteScopes = Annotated[Work[Caller], _may(ADMIN)]
# For routes that hash a password before they open a unit of work.
CallerWritingUsers = Annotated[Caller, Security(current_caller, scopes=["write:users"])]
