"""/userinfo: who the person behind a token is (OpenID Connect Core §5.3)."""

import uuid

from pydantic import BaseModel, Field

from app.api.answers import PROTECTED
from app.api.routing import Router
from app.api.security import CanReadIdentity
from app.views import ALICE, example

router = Router(tags=["identity"], responses=PROTECTED)


class UserInfo(BaseModel):
    """What the token's scopes let its client know of the person."""

    model_config = example(sub=ALICE, preferred_username="alice")

    sub: uuid.UUID = Field(description="The same as in tokens. It never changes.")
    preferred_username: str | None = Field(None, description="With `profile`. It may change.")


@router.get("/userinfo", summary="Get user info", response_model_exclude_none=True)
@router.post("/userinfo", summary="Get user info by POST", response_model_exclude_none=True)
async def userinfo(principal: CanReadIdentity) -> UserInfo:
    """The person behind the token, for a client that asked for `openid`."""
    named = "profile" in principal.scopes
    return UserInfo(sub=principal.user_id, preferred_username=principal.username if named else None)
