"""Recovery of a database that went back to an older timeline: all sessions are ended."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update

from app.access.authority import Operator
from app.audit.log import record
from app.db.models import LostTimeline
from app.errors import Conflict
from app.identity.models import User
from app.runtime import Runtime

BATCH = 1000
"""Users whose sessions are ended in one transaction."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was done, and since when changes may be missing."""

    timeline: int
    """The timeline that was lost."""
    seen_at: datetime
    """When a process last saw a server on it: nothing later can have been acknowledged."""
    users: int
    """Users whose sessions were ended."""


class NothingLost(Conflict):
    """No process has noted that the database went back."""

    text = "No process has seen this database go back to an older timeline."


async def find_loss(runtime: Runtime) -> LostTimeline:
    """Return the loss to recover from. Raises NothingLost."""
    async with runtime.reading() as db:
        lost = await db.scalar(
            select(LostTimeline).where(LostTimeline.recovered_at.is_(None)).limit(1)
        )
    if lost is None:
        raise NothingLost
    return lost


async def recover(
    runtime: Runtime, lost: LostTimeline, *, by: Operator, report: Callable[[int], None]
) -> Recovery:
    """End all sessions of all users, then let the replicas serve from this database.

    The lost commits may have ended sessions and disabled users. `report` is called with the number
    of users so far. An interrupted recovery can be run again.
    """
    users, last = 0, uuid.UUID(int=0)
    while batch := await _end_sessions(runtime, after=last, by=by):
        users, last = users + len(batch), max(batch)
        report(users)
    async with runtime.work(by) as work:
        await work.db.execute(
            update(LostTimeline)
            .where(LostTimeline.cluster == lost.cluster)
            .values(recovered_at=func.clock_timestamp())
        )
        record(
            work,
            "database.recovered",
            timeline=lost.timeline,
            seen_at=lost.seen_at,
            users=users,
        )
    return Recovery(lost.timeline, lost.seen_at, users)


async def _end_sessions(runtime: Runtime, *, after: uuid.UUID, by: Operator) -> list[uuid.UUID]:
    """End the sessions of the next users in the order of their ids, and return these ids."""
    batch = select(User.id).where(User.id > after).order_by(User.id).limit(BATCH)
    async with runtime.work(by) as work:
        ended = (
            update(User)
            .where(User.id.in_(batch))
            .values(session_epoch=User.session_epoch + 1)
            .returning(User.id)
            .execution_options(synchronize_session=False)
        )
        return list(await work.db.scalars(ended))
