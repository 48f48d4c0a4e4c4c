"""Who may call what. Every route says it, once: a principal with scopes, or `PUBLIC`."""

from typing import Annotated

from fastapi import Depends, FastAPI, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.security import OAuth2PasswordBearer, SecurityScopes

from app.access.authority import Caller
from app.access.holdings import granted_scopes
from app.access.principals import Principal
from app.access.scopes import ADMIN, SHIPPED, satisfies
from app.api.dependencies import ActorDep, RuntimeDep
from app.api.forms import FormDep
from app.errors import (
    AmbiguousCredentials,
    AuthenticationRequired,
    ConfigurationError,
    InsufficientScope,
    InvalidRequest,
)
from app.identity.clients import authenticate_client
from app.tokens.verification import verify_access_token

bearer = OAuth2PasswordBearer(tokenUrl="token", scopes=SHIPPED, auto_error=False)


async def current_principal(
    request: Request,
    required: SecurityScopes,
    token: Annotated[str | None, Depends(bearer)],
    runtime: RuntimeDep,
) -> Principal:
    """Whoever the bearer token stands for, if all scopes that the route names are in force now.

    Raises AuthenticationRequired, AmbiguousCredentials, InvalidToken or InsufficientScope.
    """
    if len(request.headers.getlist("authorization")) > 1:
        raise AmbiguousCredentials
    if token is None:
        raise AuthenticationRequired
    _, principal = await verify_access_token(
        token, runtime.issuer.jwt, runtime.sessions, now=runtime.now()
    )
    principal.require(tuple(required.scopes))
    return principal


async def current_caller(
    principal: Annotated[Principal, Depends(current_principal)], actor: ActorDep
) -> Caller:
    """The same as somebody who asks for a change: who, from where, with which scopes."""
    return Caller(
        user_id=principal.user_id,
        address=actor.address,
        user_agent=actor.user_agent,
        request_id=actor.request_id,
        scopes=principal.scopes,
    )


async def introspecting_caller(
    request: Request,
    required: SecurityScopes,
    token: Annotated[str | None, Depends(bearer)],
    form: FormDep,
    actor: ActorDep,
    runtime: RuntimeDep,
) -> None:
    """Let a service account with its secret pass (RFC 7662 §2.1), or a bearer of the scope.

    Raises ClientRefused, or what `current_principal` raises.
    """
    if form.client is None:
        await current_principal(request, required, token, runtime)
        return
    if token is not None:
        raise InvalidRequest("Authenticate in one way, not in two.")
    async with runtime.unit_of_work() as session:
        client = await authenticate_client(
            session, client_id=form.client.client_id, secret=form.client.secret, by=actor
        )
        held = await granted_scopes(session, client.id, now=runtime.now())
    if not satisfies(held, frozenset(required.scopes)):
        raise InsufficientScope(tuple(required.scopes))


async def public() -> None:
    """The mark of a route that anybody may call."""


MARKS = {current_principal, introspecting_caller, public}

PUBLIC = Depends(public)
CAN_INTROSPECT = Security(introspecting_caller, scopes=["introspect"])

AnyPrincipal = Annotated[Principal, Security(current_principal)]
CanReadItems = Annotated[Principal, Security(current_principal, scopes=["read:items"])]
CanWriteItems = Annotated[Principal, Security(current_principal, scopes=["write:items"])]
CanReadUsers = Annotated[Principal, Security(current_principal, scopes=["read:users"])]
CanWriteUsers = Annotated[Caller, Security(current_caller, scopes=["write:users"])]
CanWriteGrants = Annotated[Caller, Security(current_caller, scopes=["write:grants"])]
CanWriteScopes = Annotated[Caller, Security(current_caller, scopes=[ADMIN])]
CanReadAudit = Annotated[Principal, Security(current_principal, scopes=["read:audit"])]


def refuse_undeclared_routes(app: FastAPI, *, unscoped: frozenset[str]) -> None:
    """Default deny: raise ConfigurationError unless every route says, once, who may call it.

    `unscoped` names the paths that are not API routes (documents and their files).
    """
    for route in iter_route_contexts(app.routes):
        if route.path in unscoped:
            continue
        marks = 0
        if isinstance(route.original_route, APIRoute):
            marks = _count_marks(route.dependant)
        if marks != 1:
            raise ConfigurationError(
                f"The route {route.path} declares {marks or 'no'} ways to be called: give it one "
                "Security(current_principal, scopes=[…]) or dependencies=[PUBLIC]"
            )


def _count_marks(dependant: Dependant) -> int:
    own = int(dependant.call in MARKS)
    return own + sum(_count_marks(inner) for inner in dependant.dependencies)
