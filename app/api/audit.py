"""The audit log, to be read."""

import uuid
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel

from app.api.answers import PROTECTED, refusals
from app.api.dependencies import ReadDep
from app.api.schemas import Moment, Page, PageSize
from app.api.security import CanReadAudit, Router
from app.audit.actions import Action
from app.audit.log import list_entries
from app.views import AuditAnswer

router = Router(prefix="/audit", tags=["audit"], responses=PROTECTED | refusals(422))


class AuditQuery(BaseModel):
    """Which entries to answer."""

    user: uuid.UUID | None = None
    action: Action | None = None
    since: Moment | None = None
    limit: PageSize = 20
    after: uuid.UUID | None = None


@router.get("")
async def read_audit(
    _: CanReadAudit, db: ReadDep, query: Annotated[AuditQuery, Query()]
) -> Page[AuditAnswer]:
    """What was done, newest first; `user` is who did it, or whom it was done to."""
    found = await list_entries(
        db,
        user_id=query.user,
        action=query.action,
        since=query.since,
        after=query.after,
        limit=query.limit + 1,
    )
    return Page.of([AuditAnswer.model_validate(each) for each in found], limit=query.limit)
