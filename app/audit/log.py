"""The audit log: who did what to whom, written in the transaction that does it."""

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial
from typing import Literal, TypeVar

from pydantic_core import to_jsonable_python
from sqlalchemy import Select, Uuid, any_, func, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.audit.models import AuditEntry
from app.db.paging import paginate
from app.db.work import Actor, Work

logger = logging.getLogger(__name__)

T = TypeVar("T")

Action = Literal[
    "login.succeeded",
    "login.failed",
    "login.throttled",
    "session.ended",
    "session.reuse_detected",
    "session.grace_used",
    "user.created",
    "user.changed",
    "user.disabled",
    "user.enabled",
    "password.changed",
    "grant.made",
    "grant.revoked",
    "scope.registered",
    "scope.removed",
    "key.rotated",
    "secret.made",
    "secret.revoked",
    "database.recovered",
]

POLL_INTERVAL = 0.5
"""Seconds between two looks for new entries, while they are followed."""
WARNINGS: frozenset[Action] = frozenset(
    {"login.failed", "login.throttled", "session.reuse_detected", "session.grace_used"}
)
"""What may be an attack."""
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
    it must never contain a password, token, hash or secret.
    """
    actor = work.actor
    entry = AuditEntry(
        action=action,
        actor=actor.user_id,
        subject=subject,
        detail=to_jsonable_python(detail),
        address=actor.origin.address,
        request_id=actor.origin.request_id,
    )
    work.db.add(entry)
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


async def list_entries(
    db: AsyncSession,
    *,
    user_id: uuid.UUID | None = None,
    action: Action | None = None,
    since: datetime | None = None,
    after: uuid.UUID | None = None,
    limit: int,
) -> list[AuditEntry]:
    """Up to `limit` entries, newest first, that come after the given one.

    `user_id` narrows them to what that user did or had done to them, `since` to what is no older.
    """
    statement = _narrowed(select(AuditEntry), user_id=user_id, action=action, since=since)
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
    matching = _narrowed(select(AuditEntry.id), user_id=user_id, action=action)
    async with sessions() as db:
        looked_at = (await db.execute(select(func.now()))).scalar_one()
        recent = matching.where(AuditEntry.at >= looked_at - LONGEST_TRANSACTION)
        before = set(await db.scalars(recent))
        found = await list_entries(db, user_id=user_id, action=action, since=since, limit=limit)
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


def _narrowed(
    statement: Select[T],
    *,
    user_id: uuid.UUID | None = None,
    action: Action | None = None,
    since: datetime | None = None,
) -> Select[T]:
    if user_id is not None:
        statement = statement.where(or_(AuditEntry.actor == user_id, AuditEntry.subject == user_id))
    if action is not None:
        statement = statement.where(AuditEntry.action == action)
    if since is not None:
        statement = statement.where(AuditEntry.at >= since)
    return statement
