"""What clients and other services need to know: RFC 8414's metadata, and the keys."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends, Response
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.scopes import IDENTITY, registered_scopes
from app.api.answers import refusals
from app.api.dependencies import ReadDep, RuntimeDep
from app.api.routing import Router
from app.api.security import PUBLIC
from app.api.token import GRANTS
from app.errors import NotFound
from app.runtime import Runtime
from app.tokens.id_tokens import CLAIMS, PASSWORD_ALONE

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
    """RFC 8414 §2, with what OpenID Connect Discovery §3 asks for beside it."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    userinfo_endpoint: str
    end_session_endpoint: str
    jwks_uri: str
    revocation_endpoint: str
    introspection_endpoint: str
    scopes_supported: list[str]
    response_types_supported: list[str]
    response_modes_supported: list[str]
    code_challenge_methods_supported: list[str]
    authorization_response_iss_parameter_supported: bool = Field(description="RFC 9207.")
    request_parameter_supported: bool
    request_uri_parameter_supported: bool
    grant_types_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    revocation_endpoint_auth_methods_supported: list[str]
    introspection_endpoint_auth_methods_supported: list[str]
    subject_types_supported: list[str]
    id_token_signing_alg_values_supported: list[str] = Field(
        description="RS256, and that of access tokens, which some clients verify by it."
    )
    acr_values_supported: list[str]
    claims_supported: list[str]
    claims_parameter_supported: bool
    client_id_metadata_document_supported: bool


class Jwks(BaseModel):
    """RFC 7517 §5."""

    keys: list[dict[str, Any]]


class NoSuchIssuer(NotFound):
    """The path behind the well-known one is not that of the issuer."""

    text = "There is no issuer with this path."


def path_of(issuer: str) -> str:
    """Return the issuer's path, below which clients find the service: "" for most."""
    return urlsplit(issuer).path


@router.get("/oauth-authorization-server", summary="Get metadata", responses=refusals(503))
async def metadata(runtime: RuntimeDep, db: ReadDep) -> Metadata:
    """Where the endpoints are and what they can do (RFC 8414). The issuer is tokens' `iss`."""
    return await _metadata(runtime, db)


@router.get("/openid-configuration", summary="Get OpenID configuration", responses=refusals(503))
async def openid_configuration(runtime: RuntimeDep, db: ReadDep) -> Metadata:
    """The same document, where clients of OpenID Connect look."""
    return await _metadata(runtime, db)


@router.get("/oauth-authorization-server/{path:path}", include_in_schema=False)
@router.get("/openid-configuration/{path:path}", include_in_schema=False)
async def metadata_of_path(path: str, runtime: RuntimeDep, db: ReadDep) -> Metadata:
    """The same, for clients that insert the issuer's path (RFC 8414 §3.1)."""
    if f"/{path}" != path_of(runtime.issuer.jwt.issuer):
        raise NoSuchIssuer
    return await _metadata(runtime, db)


@router.get("/jwks.json", summary="Get keys", responses=refusals(503))
async def jwks(runtime: RuntimeDep) -> Jwks:
    """The public keys that verify this service's tokens (RFC 7517)."""
    return Jwks.model_validate(await runtime.keyring.jwks(runtime.now()))


async def _metadata(runtime: Runtime, db: AsyncSession) -> Metadata:
    # Before a connection is taken: reading the keys takes one too.
    await runtime.keyring.refresh()
    issuer = runtime.issuer.jwt.issuer
    without = set() if runtime.settings.password_grant else {"password"}
    return Metadata(
        issuer=issuer,
        authorization_endpoint=f"{issuer}/authorize",
        token_endpoint=f"{issuer}/token",
        userinfo_endpoint=f"{issuer}/userinfo",
        end_session_endpoint=f"{issuer}/logout",
        jwks_uri=f"{issuer}/.well-known/jwks.json",
        revocation_endpoint=f"{issuer}/revoke",
        introspection_endpoint=f"{issuer}/introspect",
        scopes_supported=list(
            dict.fromkeys([*IDENTITY, *(each.name for each in await registered_scopes(db))])
        ),
        response_types_supported=["code"],
        response_modes_supported=["query"],
        code_challenge_methods_supported=["S256"],
        authorization_response_iss_parameter_supported=True,
        request_parameter_supported=False,
        request_uri_parameter_supported=False,
        grant_types_supported=[grant for grant in GRANTS if grant not in without],
        token_endpoint_auth_methods_supported=[*CLIENT_SECRETS, "none"],
        revocation_endpoint_auth_methods_supported=[*CLIENT_SECRETS, "none"],
        introspection_endpoint_auth_methods_supported=CLIENT_SECRETS,
        subject_types_supported=["public"],
        id_token_signing_alg_values_supported=runtime.keyring.algorithms(runtime.now()),
        acr_values_supported=[PASSWORD_ALONE],
        claims_supported=[*CLAIMS, "preferred_username", "email", "email_verified"],
        claims_parameter_supported=False,
        client_id_metadata_document_supported=runtime.client_documents is not None,
    )
