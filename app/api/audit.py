"""The audit log, to be read."""

import uuid
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from app.api.answers import PROTECTED, refusals
from app.api.dependencies import ReadDep
from app.api.routing import Router
from app.api.schemas import Moment, Page, PageSize
from app.api.security import CanReadAudit
from app.audit.actions import Action
from app.audit.log import EntryFilter, list_entries
from app.identity.users import usernames_of
from app.views import AuditAnswer

router = Router(prefix="/audit", tags=["audit"], responses=PROTECTED | refusals(422))


class AuditQuery(BaseModel):
    """Which entries are wanted: those to which all of this applies."""

    user: uuid.UUID | None = Field(None, description="Who did it, or whom it was done to.")
    action: Action | None = None
    since: Moment | None = Field(None, description="At this time or later.")
    until: Moment | None = Field(None, description="Before this time.")
    limit: PageSize = 20
    after: uuid.UUID | None = None


class AuditPage(Page[AuditAnswer]):
    """One page of entries, newest first."""

    names: dict[uuid.UUID, str] = Field(
        default_factory=dict,
        description="What the actors and subjects of this page are called, by their ids.",
    )


@router.get("", summary="List audit entries")
async def read_audit(
    _: CanReadAudit, db: ReadDep, query: Annotated[AuditQuery, Query()]
) -> AuditPage:
    """What was done, newest first."""
    which = EntryFilter(query.user, query.action, query.since, query.until)
    found = await list_entries(db, which, after=query.after, limit=query.limit + 1)
    page = AuditPage.of([AuditAnswer.model_validate(each) for each in found], limit=query.limit)
    named = {each for entry in page.items for each in (entry.actor, entry.subject) if each}
    page.names = await usernames_of(db, named)
    return page
