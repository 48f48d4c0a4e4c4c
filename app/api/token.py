"""POST /token: where tokens come from (RFC 6749)."""

from collections.abc import Awaitable, Callable
from typing import Self

from fastapi import Request, Response
from pydantic import BaseModel, Field

from app.access.scopes import format_scope, parse_scope
from app.api.answers import oauth_answers
from app.api.dependencies import ActorDep, runtime_of, watch_disconnect
from app.api.errors import NO_STORE
from app.api.forms import FormDep, OAuthForm, authenticated_client, form_body
from app.api.routing import OAuthRoute, Router
from app.api.security import PUBLIC
from app.db.work import Actor
from app.errors import InvalidRequest, UnsupportedGrantType
from app.identity.clients import AskingClient, Client, ClientRefused
from app.identity.login import authenticate
from app.tokens.codes import PresentedCode, code_grant
from app.tokens.issuing import Issued, client_credentials_grant, password_grant, refresh_grant
from app.views import example

router = Router(route_class=OAuthRoute, tags=["tokens"], dependencies=[PUBLIC])

REFUSED = (
    ("invalid_grant", "The username or the password is wrong."),
    ("invalid_scope", "None of the scopes asked for is granted."),
)


class TokenAnswer(BaseModel):
    """RFC 6749 §5.1."""

    model_config = example(
        access_token="eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiI….MEUCIQD…",  # noqa: S106
        token_type="bearer",  # noqa: S106
        expires_in=900,
        scope="read:items write:items",
        refresh_token="sgr_MDE4OTAwMDAtMDAwMC03MDAw…",  # noqa: S106
    )

    access_token: str
    token_type: str = "bearer"
    expires_in: int = Field(description="Seconds.")
    scope: str = Field(description="The scopes that were issued, space-delimited.")
    refresh_token: str | None = Field(None, description="Absent for client credentials.")
    id_token: str | None = Field(
        None, description="For a code, where `openid` was asked for (OpenID Connect Core §3.1.3.3)."
    )

    @classmethod
    def of(cls, issued: Issued) -> Self:
        """The answer that gives these tokens out."""
        return cls(
            access_token=issued.access_token,
            expires_in=int(issued.lifetime.total_seconds()),
            scope=format_scope(issued.claims.scopes),
            refresh_token=issued.refresh_token,
            id_token=issued.id_token,
        )


@router.post(
    "/token",
    summary="Issue token",
    response_model_exclude_none=True,
    responses=oauth_answers(400, 401, 413, 429, 503, also=REFUSED),
    openapi_extra=form_body(
        grant_type="`password` (also when left out), `authorization_code`, `refresh_token` or "
        "`client_credentials`.",
        username="Who signs in.",
        password="Their password.",  # noqa: S106
        refresh_token="The refresh token to use up.",  # noqa: S106
        code="The authorization code to redeem.",
        redirect_uri="As it was in the authorization request.",
        code_verifier="What the code's challenge was made of (RFC 7636).",
        scope="The scopes asked for, space-delimited; without it, all that is granted.",
        resource="For codes and refresh tokens: which resource the token is for (RFC 8707).",
        client_id="A service account's name; HTTP Basic does as well. Or a registered client's.",
        client_secret="Its secret.",  # noqa: S106
    ),
)
async def token(
    request: Request, form: FormDep, actor: ActorDep, response: Response
) -> TokenAnswer:
    """A token whose scopes are what was asked for ∩ what is granted."""
    response.headers.update(NO_STORE)
    grant = GRANTS.get(_grant_type(form))
    runtime = runtime_of(request)
    if grant is None or (grant is _password and not runtime.settings.password_grant):
        raise UnsupportedGrantType("This grant type is not offered.")
    # Before any connection is taken: enough logins at once would hold all that there are, and wait
    # for keys that can't be read without one.
    await runtime.keyring.refresh()
    return TokenAnswer.of(await grant(request, form, actor))


def _grant_type(form: OAuthForm) -> str:
    grant_type = form.get("grant_type")
    if grant_type is not None:
        return grant_type
    # FastAPI's tutorial leaves it out.
    if form.get("username") is None or form.get("password") is None:
        raise InvalidRequest("The parameter grant_type is missing.")
    return "password"


async def _password(request: Request, form: OAuthForm, actor: Actor) -> Issued:
    runtime, requested = runtime_of(request), _requested(form)
    username, password = form.require("username"), form.require("password")
    async with (
        authenticated_client(form, runtime, actor=actor) as client,
        watch_disconnect(request) as gone,
        authenticate(
            runtime.guard,
            username=username,
            password=password,
            actor=_acting(actor, client),
            gone=gone,
        ) as person,
        runtime.work(_acting(actor, client), at_once=True) as work,
    ):
        return await password_grant(
            work, runtime.issuer, person=person, client=client, requested=requested
        )


async def _refresh_token(request: Request, form: OAuthForm, actor: Actor) -> Issued:
    runtime = runtime_of(request)
    requested, refresh_token = _requested(form), form.require("refresh_token")
    async with (
        authenticated_client(form, runtime, actor=actor) as client,
        runtime.work(_acting(actor, client), at_once=True) as work,
    ):
        return await refresh_grant(
            work,
            runtime.issuer,
            refresh_token=refresh_token,
            client=AskingClient.of(client, named=form.client_id),
            requested=requested,
            resource=form.get("resource"),
        )


async def _authorization_code(request: Request, form: OAuthForm, actor: Actor) -> Issued:
    runtime = runtime_of(request)
    presented = PresentedCode(
        form.require("code"),
        form.get("redirect_uri"),
        form.require("code_verifier"),
        form.get("resource"),
    )
    if not form.client and form.client_id is None:
        raise InvalidRequest("The parameter client_id is missing.")
    async with (
        authenticated_client(form, runtime, actor=actor) as client,
        runtime.work(_acting(actor, client)) as work,
    ):
        asking = AskingClient.of(client, named=form.client_id)
        return await code_grant(work, runtime.issuer, presented, client=client, asking=asking)


async def _client_credentials(request: Request, form: OAuthForm, actor: Actor) -> Issued:
    runtime, requested = runtime_of(request), _requested(form)
    async with authenticated_client(form, runtime, actor=actor) as client:
        if client is None:
            raise ClientRefused
        async with runtime.work(actor, at_once=True) as work:
            return await client_credentials_grant(
                work, runtime.issuer, client=client, requested=requested
            )


def _acting(actor: Actor, client: Client | None) -> Actor:
    """Return who asks for a grant to another account: the client, if one has authenticated."""
    return actor.signed_in_as(client.id if client else None)


GRANTS: dict[str, Callable[[Request, OAuthForm, Actor], Awaitable[Issued]]] = {
    "password": _password,
    "authorization_code": _authorization_code,
    "refresh_token": _refresh_token,
    "client_credentials": _client_credentials,
}


def _requested(form: OAuthForm) -> frozenset[str] | None:
    scope = form.get("scope")
    return None if scope is None else parse_scope(scope)
