"""Personal access tokens: a person makes, lists and revokes their own, for scripts and CI jobs."""

import uuid
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from fastapi import Response
from pydantic import BaseModel, Field, JsonValue, StrictBool

from app.access.personal_tokens import (
    MAX_TOKEN_NAME,
    NewToken,
    TokenNotFound,
    TooManyTokens,
    revoke_own_token,
)
from app.access.scopes import ScopeNotRegistered
from app.api.answers import PROTECTED, refusals
from app.api.dependencies import ReadDep, RuntimeDep
from app.api.errors import NO_STORE
from app.api.routing import Router
from app.api.schemas import Moment, Page, PageSize, ScopeName, Text
from app.api.security import OwnHand, OwnWork
from app.identity.own_sessions import list_tokens
from app.tokens.personal_tokens import PATTERN, make_token
from app.views import Listed, example

router = Router(prefix="/users/me/tokens", tags=["me"], responses=PROTECTED | refusals(422))


SHOWN: dict[str, JsonValue] = {
    "id": "01890000-0000-7000-8000-000000000012",
    "name": "nightly backup",
    "scopes": ["read:items"],
    "created_at": "2027-01-04T08:12:30Z",
    "expires_at": "2027-07-01T00:00:00Z",
}
"""In examples."""


class PersonalTokenRequest(BaseModel):
    """A personal access token to make. It is always your own."""

    model_config = example(
        name="nightly backup", scopes=["read:items"], expires_at="2027-07-01T00:00:00Z"
    )

    name: Annotated[Text, Field(min_length=1, max_length=MAX_TOKEN_NAME)] = Field(
        description="You know the token by it."
    )
    scopes: Annotated[frozenset[ScopeName], Field(min_length=1)] = Field(
        description="Each must be in force in the token of this request. Later, only scopes that "
        "you still hold have effect."
    )
    expires_at: Moment = Field(description="Within `SCOPEGATE_MAX_TOKEN_LIFETIME`.")
    confirm_admin: StrictBool = Field(
        False, description="`true`: confirms that the token may have `admin`."
    )


class PersonalTokenAnswer(Listed):
    """A personal access token, without the token itself."""

    model_config = example(**SHOWN, last_used_at="2027-01-05T16:40:02Z")

    id: uuid.UUID
    name: str
    scopes: list[str] = Field(description="Those of them count that are granted now.")
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = Field(description="To the minute. Null: never.")


class NewPersonalTokenAnswer(PersonalTokenAnswer):
    """The new token. The service does not keep it: it is shown this once."""

    model_config = example(
        **SHOWN,
        last_used_at=None,
        token="sgp_4TkWcVf0BPNH8s2yQxAIeRmDz7L1pkmCe",  # noqa: S106
    )

    token: str = Field(json_schema_extra={"pattern": f"^{PATTERN}$"})


class PersonalTokenPage(Page[PersonalTokenAnswer]):
    """One page of your tokens. The one that expires first comes first."""


@router.post(
    "",
    summary="Make my token",
    status_code=201,
    responses=refusals(
        404, 409, 413, texts={404: str(ScopeNotRegistered()), 409: str(TooManyTokens())}
    ),
)
async def make_own_token(
    new: PersonalTokenRequest, work: OwnWork, runtime: RuntimeDep, response: Response
) -> NewPersonalTokenAnswer:
    """A new personal access token of your own. It is shown this once."""
    response.headers.update(NO_STORE)
    made = await make_token(
        work,
        NewToken(new.name, new.scopes, new.expires_at, new.confirm_admin),
        longest=runtime.settings.max_token_lifetime,
    )
    return NewPersonalTokenAnswer(token=made.value, **asdict(made.token))


@router.get("", summary="List my tokens")
async def list_own_tokens(
    principal: OwnHand,
    runtime: RuntimeDep,
    db: ReadDep,
    limit: PageSize = 20,
    after: uuid.UUID | None = None,
) -> PersonalTokenPage:
    """Your live personal access tokens. The one that expires first comes first."""
    found = await list_tokens(
        db, principal.user_id, after=after, limit=limit + 1, now=runtime.now()
    )
    return PersonalTokenPage.of(
        [PersonalTokenAnswer.model_validate(each) for each in found], limit=limit
    )


@router.delete(
    "/{token_id}",
    summary="Revoke my token",
    status_code=204,
    responses=refusals(404, texts={404: str(TokenNotFound())}),
)
async def revoke_one_token(token_id: uuid.UUID, work: OwnWork) -> None:
    """Revoke one of your tokens, at once and everywhere; repeating it changes nothing."""
    await revoke_own_token(work, token_id)
