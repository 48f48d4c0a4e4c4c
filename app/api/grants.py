"""Grants: which scopes a user holds, until when and why."""

import uuid

from pydantic import BaseModel

from app.access import grants
from app.access.authority import LastAdmin
from app.access.holdings import grants_of
from app.api.answers import PROTECTED, refusals
from app.api.dependencies import ReadDep, RuntimeDep
from app.api.routing import Router
from app.api.schemas import Moment, Page, PageSize, Remark, Text
from app.api.security import CanReadUsers, CanWriteGrants
from app.identity.users import user_of_id
from app.views import GrantAnswer, example

router = Router(
    prefix="/users/{user_id}/grants", tags=["grants"], responses=PROTECTED | refusals(404, 422)
)


LAST_ADMIN = str(LastAdmin())


class GrantTerms(BaseModel):
    """Until when the scope is held, and why. Without an end: until it is revoked."""

    model_config = example(expires_at="2099-12-31T18:00:00Z", reason="On call in January")

    expires_at: Moment | None = None
    reason: Remark | None = None


class GrantPage(Page[GrantAnswer]):
    """One page of grants, by scope."""


@router.get("", summary="List grants")
async def list_grants(
    user_id: uuid.UUID,
    _: CanReadUsers,
    runtime: RuntimeDep,
    db: ReadDep,
    limit: PageSize = 20,
    after: Text | None = None,
) -> GrantPage:
    """What the user holds now, by scope."""
    await user_of_id(db, user_id)
    found = await grants_of(db, user_id, after=after, limit=limit + 1, now=runtime.now())
    return GrantPage.of([GrantAnswer.model_validate(each) for each in found], limit=limit)


@router.put(
    "/{scope:scope}",
    summary="Grant scope",
    status_code=204,
    responses=refusals(409, 413, texts={409: LAST_ADMIN}),
)
async def grant(
    user_id: uuid.UUID,
    scope: str,
    work: CanWriteGrants,
    terms: GrantTerms | None = None,
) -> None:
    """Grant a scope that the caller holds, for no longer than they do. Repeating changes nothing.

    These terms take the place of earlier ones: so an end is moved, or taken away.
    """
    terms = terms or GrantTerms()
    await grants.grant(work, user_id, scope, expires_at=terms.expires_at, reason=terms.reason)


@router.delete(
    "/{scope:scope}",
    summary="Revoke scope",
    status_code=204,
    responses=refusals(409, texts={409: LAST_ADMIN}),
)
async def revoke(user_id: uuid.UUID, scope: str, work: CanWriteGrants) -> None:
    """Take back a scope that the caller holds, from live tokens too. Repeating changes nothing."""
    await grants.revoke(work, user_id, scope)
