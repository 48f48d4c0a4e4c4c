"""The audit log, to be read."""

import uuid

from app.api.answers import PROTECTED, refusals
from app.api.dependencies import ReadDep
from app.api.schemas import Moment, Page, PageSize
from app.api.security import CanReadAudit, Router
from app.audit.log import Action, list_entries
from app.views import AuditAnswer

router = Router(prefix="/audit", tags=["audit"], responses=PROTECTED | refusals(422))


@router.get("")
async def read_audit(
    _: CanReadAudit,
    db: ReadDep,
    user: uuid.UUID | None = None,
    action: Action | None = None,
    since: Moment | None = None,
    limit: PageSize = 20,
    after: uuid.UUID | None = None,
) -> Page[AuditAnswer]:
    """What was done, newest first; `user` is who did it, or whom it was done to."""
    found = await list_entries(
        db, user_id=user, action=action, since=since, after=after, limit=limit + 1
    )
    return Page.of([AuditAnswer.model_validate(each) for each in found], limit=limit)
