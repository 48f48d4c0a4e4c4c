"""What clients and other services need to know: RFC 8414's metadata, and the keys."""

from datetime import timedelta
from typing import Any

from fastapi import Depends, Response
from pydantic import BaseModel

from app.access.scopes import registered_scopes
from app.api.answers import refusals
from app.api.dependencies import ReadDep, RuntimeDep
from app.api.security import PUBLIC, Router
from app.api.token import GRANTS

MAX_AGE = timedelta(minutes=5)
"""For how long an answer may be kept at most."""


async def may_be_kept(runtime: RuntimeDep, response: Response) -> None:
    """Let caches keep the answer for less time than a new key is published before it signs."""
    max_age = min(MAX_AGE, runtime.settings.key_publication // 2)
    response.headers["Cache-Control"] = f"max-age={int(max_age.total_seconds())}"


router = Router(
    prefix="/.well-known", tags=["discovery"], dependencies=[PUBLIC, Depends(may_be_kept)]
)

CLIENT_SECRETS = ["client_secret_basic", "client_secret_post"]


class Metadata(BaseModel):
    """RFC 8414 §2."""

    issuer: str
    token_endpoint: str
    jwks_uri: str
    revocation_endpoint: str
    introspection_endpoint: str
    scopes_supported: list[str]
    response_types_supported: list[str]
    grant_types_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    revocation_endpoint_auth_methods_supported: list[str]
    introspection_endpoint_auth_methods_supported: list[str]


class Jwks(BaseModel):
    """RFC 7517 §5."""

    keys: list[dict[str, Any]]


@router.get("/oauth-authorization-server", responses=refusals(503))
async def metadata(runtime: RuntimeDep, db: ReadDep) -> Metadata:
    """Where the endpoints are and what they can do (RFC 8414). The issuer is tokens' `iss`."""
    issuer = runtime.issuer.jwt.issuer
    without = set() if runtime.settings.password_grant else {"password"}
    return Metadata(
        issuer=issuer,
        token_endpoint=f"{issuer}/token",
        jwks_uri=f"{issuer}/.well-known/jwks.json",
        revocation_endpoint=f"{issuer}/revoke",
        introspection_endpoint=f"{issuer}/introspect",
        scopes_supported=[scope.name for scope in await registered_scopes(db)],
        # There is no authorization endpoint, so none of its response types.
        response_types_supported=[],
        grant_types_supported=[grant for grant in GRANTS if grant not in without],
        token_endpoint_auth_methods_supported=[*CLIENT_SECRETS, "none"],
        revocation_endpoint_auth_methods_supported=[*CLIENT_SECRETS, "none"],
        introspection_endpoint_auth_methods_supported=CLIENT_SECRETS,
    )


@router.get("/jwks.json", responses=refusals(503))
async def jwks(runtime: RuntimeDep) -> Jwks:
    """The public keys that verify this service's tokens (RFC 7517)."""
    return Jwks.model_validate(await runtime.keyring.jwks(runtime.now()))
