"""POST /revoke (RFC 7009) and POST /introspect (RFC 7662)."""

import uuid

from fastapi import Response
from pydantic import BaseModel, Field

from app.access.scopes import format_scope
from app.api.answers import oauth_answers
from app.api.dependencies import ActorDep, RuntimeDep
from app.api.errors import NO_STORE
from app.api.forms import FormDep, authenticated_client, form_body
from app.api.routing import OAuthRoute, Router
from app.api.security import CAN_INTROSPECT, PUBLIC
from app.tokens.introspection import introspect_token
from app.tokens.revocation import revoke_token
from app.views import ALICE, example

router = Router(route_class=OAuthRoute, tags=["tokens"])

FORM = form_body(
    "token",
    token="An access token of either format, or a refresh token.",  # noqa: S106
    token_type_hint="Ignored.",  # noqa: S106
    client_id="A service account's name; HTTP Basic does as well.",
    client_secret="Its secret.",  # noqa: S106
)


class Revocation(BaseModel):
    """Empty: some clients read an answer as JSON, although RFC 7009 §2.2 gives it no content."""


class Introspection(BaseModel):
    """RFC 7662 §2.2. An inactive token has `active` alone."""

    model_config = example(
        active=True,
        scope="read:items",
        client_id="scopegate",
        username="alice",
        token_type="access_token",  # noqa: S106
        exp=1799136900,
        iat=1799136000,
        sub=ALICE,
        aud="https://auth.example.com",
        iss="https://auth.example.com",
        jti="01890000-0000-7000-8000-000000000050",
        sid="01890000-0000-7000-8000-000000000010",
    )

    active: bool
    scope: str | None = Field(None, description="The scopes that count now.")
    client_id: str | None = None
    username: str | None = None
    token_type: str | None = None
    exp: int | None = None
    iat: int | None = None
    sub: uuid.UUID | None = None
    aud: str | None = None
    iss: str | None = None
    jti: uuid.UUID | None = None
    sid: uuid.UUID | None = None


@router.post(
    "/revoke",
    summary="Revoke token",
    dependencies=[PUBLIC],
    responses=oauth_answers(400, 401, 413, 429, 503),
    openapi_extra=FORM,
)
async def revoke(
    form: FormDep, actor: ActorDep, runtime: RuntimeDep, response: Response
) -> Revocation:
    """End the session of this token. The token is the proof; 200 too for what is no token."""
    response.headers.update(NO_STORE)
    token = form.require("token")
    async with authenticated_client(form, runtime, actor=actor):
        await revoke_token(
            token,
            runtime.issuer.refresh_tokens,
            runtime.access_tokens,
            runtime.database,
            actor=actor,
        )
    return Revocation()


@router.post(
    "/introspect",
    summary="Introspect token",
    dependencies=[CAN_INTROSPECT],
    response_model_exclude_none=True,
    responses=oauth_answers(400, 401, 403, 413, 429, 503),
    openapi_extra=FORM,
)
async def introspect(form: FormDep, runtime: RuntimeDep, response: Response) -> Introspection:
    """Whether a token is active, and which of its scopes count now."""
    response.headers.update(NO_STORE)
    active = await introspect_token(
        form.require("token"),
        runtime.issuer.refresh_tokens,
        runtime.access_tokens,
        runtime.reading,
        now=runtime.now(),
    )
    if active is None:
        return Introspection(active=False)
    token, principal = active.token, active.principal
    return Introspection(
        active=True,
        scope=format_scope(principal.scopes),
        client_id=token.client_id,
        username=principal.username,
        token_type=token.token_type,
        exp=int(active.expires_at.timestamp()),
        iat=int(token.issued_at.timestamp()),
        sub=token.subject,
        aud=token.audience or runtime.issuer.jwt.audience,
        iss=runtime.issuer.jwt.issuer,
        jti=token.token_id,
        sid=token.session_id,
    )
