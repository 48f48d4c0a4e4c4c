"""POST /token: where tokens come from (RFC 6749)."""

from datetime import timedelta

from fastapi import APIRouter, Response

from app.api.dependencies import RuntimeDep
from app.api.errors import NO_STORE
from app.api.forms import FormDep, form_body
from app.api.schemas import TokenAnswer, oauth_answers
from app.api.security import PUBLIC
from app.errors import InvalidClient, InvalidRequest, UnsupportedGrantType
from app.tokens.issuing import password_grant

router = APIRouter(tags=["tokens"], dependencies=[PUBLIC])


@router.post(
    "/token",
    responses=oauth_answers(400, 401, 413, 503),
    openapi_extra=form_body(
        required={},
        optional={
            "grant_type": "`password`; may be left out when there is a username.",
            "username": "Who signs in.",
            "password": "Their password.",
            "scope": "The scopes asked for, space-delimited; without it, all that is granted.",
        },
    ),
)
async def token(form: FormDep, runtime: RuntimeDep, response: Response) -> TokenAnswer:
    """A token whose scopes are what was asked for ∩ what is granted."""
    response.headers.update(NO_STORE)
    grant_type = form.get("grant_type")
    if grant_type is None:
        # FastAPI's tutorial leaves it out.
        if form.get("username") is None or form.get("password") is None:
            raise InvalidRequest("The parameter grant_type is missing.")
        grant_type = "password"
    if grant_type != "password" or not runtime.settings.password_grant:
        raise UnsupportedGrantType("This grant type is not offered.")
    if form.client is not None:
        raise InvalidClient("There is no such client, or its secret is wrong.")
    issued = await password_grant(
        runtime.sessions,
        runtime.hasher,
        runtime.tokens,
        username=form.require("username"),
        password=form.require("password"),
        scope=form.get("scope"),
        lifetime=timedelta(seconds=runtime.settings.access_token_lifetime),
        now=runtime.now(),
    )
    return TokenAnswer.of(issued)
