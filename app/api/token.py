"""POST /token: where tokens come from (RFC 6749)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import APIRouter, Response
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.scopes import parse_scope
from app.api.dependencies import ActorDep, RuntimeDep
from app.api.errors import NO_STORE
from app.api.forms import FormDep, OAuthForm, authenticated_client, form_body
from app.api.schemas import TokenAnswer, oauth_answers
from app.api.security import PUBLIC
from app.audit.log import Actor
from app.errors import InvalidRequest, UnsupportedGrantType
from app.identity.clients import ClientRefused
from app.identity.login import authenticate
from app.runtime import Runtime
from app.tokens.issuing import Issued, client_credentials_grant, password_grant, refresh_grant

router = APIRouter(tags=["tokens"], dependencies=[PUBLIC])


@router.post(
    "/token",
    response_model_exclude_none=True,
    responses=oauth_answers(400, 401, 413, 503),
    openapi_extra=form_body(
        grant_type="`password` (also when left out), `refresh_token` or `client_credentials`.",
        username="Who signs in.",
        password="Their password.",  # noqa: S106
        refresh_token="The refresh token to use up.",  # noqa: S106
        scope="The scopes asked for, space-delimited; without it, all that is granted.",
        client_id="A service account's name; HTTP Basic does as well.",
        client_secret="Its secret.",  # noqa: S106
    ),
)
async def token(
    form: FormDep, actor: ActorDep, runtime: RuntimeDep, response: Response
) -> TokenAnswer:
    """A token whose scopes are what was asked for ∩ what is granted."""
    response.headers.update(NO_STORE)
    grant = GRANTS.get(_grant_type(form))
    if grant is None or (grant is _password and not runtime.settings.password_grant):
        raise UnsupportedGrantType("This grant type is not offered.")
    return TokenAnswer.of(await grant(runtime, form, actor))


def _grant_type(form: OAuthForm) -> str:
    grant_type = form.get("grant_type")
    if grant_type is not None:
        return grant_type
    # FastAPI's tutorial leaves it out.
    if form.get("username") is None or form.get("password") is None:
        raise InvalidRequest("The parameter grant_type is missing.")
    return "password"


async def _password(runtime: Runtime, form: OAuthForm, by: Actor) -> Issued:
    requested = _requested(form)
    username, password = form.require("username"), form.require("password")
    async with runtime.unit_of_work() as session:
        client = await authenticated_client(form, session, by=by)
    user = await authenticate(
        runtime.sessions, runtime.hasher, username=username, password=password, by=by
    )
    async with _issuing(runtime) as session:
        return await password_grant(
            session,
            runtime.issuer,
            user=user,
            client_id=client.username if client else None,
            requested=requested,
            by=by,
            now=runtime.now(),
        )


async def _refresh_token(runtime: Runtime, form: OAuthForm, by: Actor) -> Issued:
    requested, refresh_token = _requested(form), form.require("refresh_token")
    async with _issuing(runtime) as session:
        client = await authenticated_client(form, session, by=by)
        return await refresh_grant(
            session,
            runtime.issuer,
            refresh_token=refresh_token,
            client_id=client.username if client else None,
            requested=requested,
            by=by,
            now=runtime.now(),
        )


async def _client_credentials(runtime: Runtime, form: OAuthForm, by: Actor) -> Issued:
    requested = _requested(form)
    async with _issuing(runtime) as session:
        client = await authenticated_client(form, session, by=by)
        if client is None:
            raise ClientRefused
        return await client_credentials_grant(
            session,
            runtime.issuer,
            client=client,
            requested=requested,
            by=by,
            now=runtime.now(),
        )


@asynccontextmanager
async def _issuing(runtime: Runtime) -> AsyncIterator[AsyncSession]:
    """A unit of work that issues a token, with the keys as they are.

    They are read before it: whoever holds a connection must not wait for another, or those who
    hold them all wait for each other.
    """
    await runtime.keyring.refresh()
    async with runtime.unit_of_work() as session:
        yield session


GRANTS: dict[str, Callable[[Runtime, OAuthForm, Actor], Awaitable[Issued]]] = {
    "password": _password,
    "refresh_token": _refresh_token,
    "client_credentials": _client_credentials,
}


def _requested(form: OAuthForm) -> frozenset[str] | None:
    scope = form.get("scope")
    return None if scope is None else parse_scope(scope)
