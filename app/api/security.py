"""Who may call what. Every route says it, once: a principal with scopes, or `PUBLIC`."""

from typing import Annotated

from fastapi import Depends, FastAPI, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.security import OAuth2PasswordBearer, SecurityScopes

from app.access.principals import Principal, load_principal
from app.access.scopes import SHIPPED
from app.api.dependencies import RuntimeDep
from app.errors import (
    AmbiguousCredentials,
    AuthenticationRequired,
    ConfigurationError,
    InvalidToken,
)
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
    now = runtime.now()
    claims = verify_access_token(token, runtime.tokens, now=now)
    principal = await load_principal(
        runtime.sessions, user_id=claims.subject, token_scopes=claims.scopes, now=now
    )
    if principal is None:
        raise InvalidToken
    principal.require(tuple(required.scopes))
    return principal


async def public() -> None:
    """The mark of a route that anybody may call."""


PUBLIC = Depends(public)

AnyPrincipal = Annotated[Principal, Security(current_principal)]
CanReadItems = Annotated[Principal, Security(current_principal, scopes=["read:items"])]
CanWriteItems = Annotated[Principal, Security(current_principal, scopes=["write:items"])]


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
    own = int(dependant.call in {current_principal, public})
    return own + sum(_count_marks(inner) for inner in dependant.dependencies)
