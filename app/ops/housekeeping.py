"""Housekeeping: clearing away what has expired, in small bites, by one replica at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Executable, delete, or_, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import InstrumentedAttribute

from app.audit.models import AuditEntry
from app.identity.models import FailureBudget, KnownNetwork, Session
from app.identity.throttle import KNOWN_FOR, SLACK
from app.tokens.models import OpaqueToken, SigningKey

BATCH = 1000
"""Rows a transaction: short enough that nobody waits for it."""
# Any number will do, as long as nothing else in this database locks it.
HOUSEKEEPING_LOCK = 0x5C09E6A8


@dataclass(frozen=True, slots=True)
class Chore:
    """One kind of rows, and how to remove a batch of them."""

    name: str
    batch: Executable


def chores(*, now: datetime, kept: timedelta, audit_kept: timedelta) -> list[Chore]:
    """What there is to clear away.

    `kept` is how long an ended session is still of interest, `audit_kept` an audit entry.
    """
    cutoff = now - kept
    return [
        Chore("opaque tokens", _batch(OpaqueToken.digest, where=OpaqueToken.expires_at <= now)),
        Chore(
            "sessions",
            # Idle expiry is never later than the absolute one.
            _batch(
                Session.id, where=or_(Session.ended_at <= cutoff, Session.idle_expires_at <= cutoff)
            ),
        ),
        Chore("signing keys", _batch(SigningKey.kid, where=SigningKey.retires_at <= cutoff)),
        Chore(
            "failure budgets", _batch(FailureBudget.key, where=FailureBudget.open_at <= now - SLACK)
        ),
        Chore(
            "known networks",
            _batch(
                KnownNetwork.user_id,
                KnownNetwork.network,
                where=KnownNetwork.signed_in_at <= now - KNOWN_FOR,
            ),
        ),
        Chore("audit entries", _batch(AuditEntry.id, where=AuditEntry.at <= now - audit_kept)),
    ]


async def prune(
    sessions: async_sessionmaker[AsyncSession],
    *,
    now: datetime,
    kept: timedelta,
    audit_kept: timedelta,
    report: Callable[[str, int], None] | None = None,
) -> bool:
    """Remove all that has expired; `report` is told of every batch.

    False when another replica is at it: then there is nothing to do here.
    """
    for chore in chores(now=now, kept=kept, audit_kept=audit_kept):
        removed = BATCH
        while removed == BATCH:
            async with sessions.begin() as session:
                if not await session.scalar(
                    text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": HOUSEKEEPING_LOCK}
                ):
                    return False
                removed = len((await session.execute(chore.batch)).all())
            if report:
                report(chore.name, removed)
    return True


def _batch(*key: InstrumentedAttribute[Any], where: ColumnElement[bool]) -> Executable:
    some = select(*key).where(where).limit(BATCH).with_for_update(skip_locked=True)
    statement = delete(key[0].class_).where(tuple_(*key).in_(some)).returning(*key)
    return statement.execution_options(synchronize_session=False)
