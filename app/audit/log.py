"""The audit log: who did what to whom, written in the transaction that does it."""

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from pydantic_core import to_jsonable_python
from sqlalchemy import ColumnElement, Uuid, any_, func, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from uuid_utils.compat import uuid7

from app.audit.actions import WARNINGS, Action
from app.audit.models import AuditEntry
from app.db.paging import paginate
from app.db.work import Actor, Work

logger = logging.getLogger(__name__)

T = TypeVar("T")

POLL_INTERVAL = 0.5
"""Seconds between two looks for new entries, while they are followed."""
LONGEST_TRANSACTION = timedelta(seconds=30)
"""After its start no transaction of ours commits that much later."""


def record(
    work: Work[Actor],
    action: Action,
    /,
    *,
    subject: uuid.UUID | None = None,
    **detail: object,
) -> None:
    """Add an entry, which is committed or rolled back with what it describes.

    Once committed it is also logged and counted. `detail` is shown to holders of `read:audit`, so
    it must never contain a password, token, hash or secret, and no name or address of a person: an
    entry outlives them. Of a command, it names the operator.
    """
    entry = entry_of(work, action, subject=subject, **detail)
    work.db.add(entry)
    announce(work, entry)


def entry_of(
    work: Work[Actor], action: Action, /, *, subject: uuid.UUID | None, **detail: object
) -> AuditEntry:
    """Return such an entry, for a statement that adds it together with what it describes."""
    actor = work.actor
    if actor.origin.operator:
        detail["operator"] = actor.origin.operator
    return AuditEntry(
        id=uuid7(),
        action=action,
        actor=actor.user_id,
        subject=subject,
        detail=to_jsonable_python(detail),
        address=actor.origin.address,
        request_id=actor.origin.request_id,
    )


def announce(work: Work[Actor], entry: AuditEntry) -> None:
    """Log and count the entry, which is in the database, once it is committed."""
    work.after_commit(partial(_publish, entry, work.database.audited))


def _publish(entry: AuditEntry, audited: Counter[str]) -> None:
    audited[entry.action] += 1
    _log(entry)


def _log(entry: AuditEntry) -> None:
    # The detail is not logged: only holders of `read:audit` may see it.
    logger.log(
        logging.WARNING if entry.action in WARNINGS else logging.INFO,
        entry.action,
        extra={
            "actor": entry.actor and str(entry.actor),
            "subject": entry.subject and str(entry.subject),
            "address": entry.address,
            "request_id": entry.request_id,
        },
    )


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries are listed: those to which all of this applies. None: any will do."""

    user_id: uuid.UUID | None = None
    """Who did it, or whom it was done to."""
    action: Action | None = None
    since: datetime | None = None
    """At this time or later."""
    until: datetime | None = None
    """Before this time."""

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return what an entry's row must satisfy."""
        found: list[ColumnElement[bool]] = []
        if self.user_id is not None:
            found.append(or_(AuditEntry.actor == self.user_id, AuditEntry.subject == self.user_id))
        if self.action is not None:
            found.append(AuditEntry.action == self.action)
        if self.since is not None:
            found.append(AuditEntry.at >= self.since)
        if self.until is not None:
            found.append(AuditEntry.at < self.until)
        return found


def first_id_at(moment: datetime) -> uuid.UUID:
    """Return the lowest id that an entry of this moment or later can have."""
    # A UUIDv7 begins with the milliseconds (RFC 9562 §5.7).
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80)


async def entries_about(
    db: AsyncSession, user_id: uuid.UUID, *, after: uuid.UUID | None, limit: int
) -> list[AuditEntry]:
    """Return up to `limit` entries of what a user did or had done to them, oldest first.

    As quick for the last page as for the first: each of two indexes gives its next entries.
    """
    found: dict[uuid.UUID, AuditEntry] = {}
    for column in (AuditEntry.actor, AuditEntry.subject):
        statement = select(AuditEntry).where(column == user_id)
        page = await paginate(db, statement, AuditEntry.id, after=after, limit=limit)
        found.update({each.id: each for each in page})
    return [found[each] for each in sorted(found)][:limit]


async def list_entries(
    db: AsyncSession,
    which: EntryFilter,
    *,
    after: uuid.UUID | None = None,
    limit: int,
) -> list[AuditEntry]:
    """Return up to `limit` of these entries, newest first, that come after the given one."""
    statement = select(AuditEntry).where(*which.conditions())
    return await paginate(db, statement, AuditEntry.id, after=after, limit=limit, descending=True)


async def follow_entries(
    sessions: async_sessionmaker[AsyncSession],
    *,
    user_id: uuid.UUID | None = None,
    action: Action | None = None,
    since: datetime | None = None,
    limit: int,
) -> AsyncIterator[list[AuditEntry]]:
    """The newest `limit` entries, oldest first; then, endlessly, those committed since, each once.

    Left out is what took longer than LONGEST_TRANSACTION to commit.
    """
    # Entries become visible in the order of their commits, which neither their ids nor their times
    # tell. So each look goes back as far as a transaction lasts, past what was there before: back
    # from the look before it, however long ago that was, as the reader may have paused.
    which = EntryFilter(user_id, action, since)
    matching = select(AuditEntry.id).where(*replace(which, since=None).conditions())
    async with sessions() as db:
        looked_at = (await db.execute(select(func.now()))).scalar_one()
        recent = matching.where(AuditEntry.at >= looked_at - LONGEST_TRANSACTION)
        before = set(await db.scalars(recent))
        found = await list_entries(db, which, limit=limit)
    found.reverse()
    before.update(each.id for each in found)
    while True:
        yield found
        await asyncio.sleep(POLL_INTERVAL)
        async with sessions() as db:
            recent = matching.where(AuditEntry.at >= looked_at - LONGEST_TRANSACTION)
            looked_at = (await db.execute(select(func.now()))).scalar_one()
            there = set(await db.scalars(recent))
            new = literal(list(there - before), ARRAY(Uuid()))
            found = list(
                await db.scalars(
                    select(AuditEntry).where(AuditEntry.id == any_(new)).order_by(AuditEntry.id)
                )
            )
        before = there
