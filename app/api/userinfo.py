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

    model_config = example(
        sub=ALICE, preferred_username="alice", email="alice@example.com", email_verified=True
    )

    sub: uuid.UUID = Field(description="The same as in tokens. It never changes.")
    preferred_username: str | None = Field(None, description="With `profile`. It may change.")
    email: str | None = Field(None, description="With `email`, if there is one. It may change.")
    email_verified: bool | None = Field(None, description="With `email`: whether it is confirmed.")


@router.get("/userinfo", summary="Get user info", response_model_exclude_none=True)
@router.post("/userinfo", summary="Get user info by POST", response_model_exclude_none=True)
async def userinfo(principal: CanReadIdentity) -> UserInfo:
    """The person behind the token, for a client that asked for `openid`."""
    found = UserInfo(sub=principal.user_id)
    if "profile" in principal.scopes:
        found.preferred_username = principal.username
    if "email" in principal.scopes and principal.holder.email is not None:
        found.email = principal.holder.email
        found.email_verified = principal.holder.email_verified
    return found
