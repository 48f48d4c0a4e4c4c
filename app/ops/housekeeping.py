"""Housekeeping: delete expired rows in small batches, on one replica at a time."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Executable, delete, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import InstrumentedAttribute

from app.audit.models import AuditEntry
from app.db.locks import Lock, try_lock
from app.identity.erased_names import NAMES_KEPT
from app.identity.erasure import remove_erased
from app.identity.models import (
    Consent,
    ErasedName,
    FailureBudget,
    KnownNetwork,
    Registration,
    Session,
    User,
)
from app.identity.networks import KNOWN_FOR
from app.identity.throttle import SLACK
from app.tokens.models import AuthorizationCode, OpaqueToken, SigningKey

CODES_KEPT = timedelta(days=1)
BATCH = 1000
"""Rows per transaction: few enough that no request waits for it."""


@dataclass(frozen=True, slots=True)
class Chore:
    """One kind of rows, and how to clear away a batch of them."""

    name: str
    clear: Callable[[AsyncSession], Awaitable[int]]
    """Return the number of rows. If it is BATCH or more, there may be more of them."""


def chores(*, now: datetime, kept: timedelta, audit_kept: timedelta) -> list[Chore]:
    """Return all kinds of rows to clear away.

    Ended sessions and retired keys stay for `kept`, audit entries for `audit_kept`.
    """
    cutoff = now - kept
    return [
        Chore("sessions of earlier epochs", partial(_end_earlier_epochs, now=now)),
        Chore(
            "authorization codes",
            # Kept for a while: a code that comes again ends what was issued for it.
            _removal(
                AuthorizationCode.digest, where=AuthorizationCode.expires_at <= now - CODES_KEPT
            ),
        ),
        Chore(
            "consents of deleted clients",
            _removal(
                Consent.id,
                where=Consent.registration_id.in_(
                    select(Registration.id).where(Registration.deleted_at.is_not(None))
                ),
            ),
        ),
        *_chores_of_erased(now=now),
        Chore("opaque tokens", _removal(OpaqueToken.digest, where=OpaqueToken.expires_at <= now)),
        Chore(
            "sessions",
            # Idle expiry is never later than the absolute one.
            _removal(
                Session.id, where=or_(Session.ended_at <= cutoff, Session.idle_expires_at <= cutoff)
            ),
        ),
        Chore("signing keys", _removal(SigningKey.kid, where=SigningKey.retires_at <= cutoff)),
        Chore(
            "failure budgets",
            _removal(FailureBudget.key, where=FailureBudget.open_at <= now - SLACK),
        ),
        Chore(
            "known networks",
            _removal(
                KnownNetwork.user_id,
                KnownNetwork.network,
                where=KnownNetwork.signed_in_at <= now - KNOWN_FOR,
            ),
        ),
        Chore("audit entries", _removal(AuditEntry.id, where=AuditEntry.at <= now - audit_kept)),
    ]


def _chores_of_erased(*, now: datetime) -> list[Chore]:
    return [
        Chore("erased accounts", partial(remove_erased, now=now, limit=BATCH)),
        Chore(
            "names of erased accounts",
            _removal(ErasedName.digest, where=ErasedName.erased_at <= now - NAMES_KEPT),
        ),
    ]


async def prune(
    sessions: async_sessionmaker[AsyncSession],
    *,
    now: datetime,
    kept: timedelta,
    audit_kept: timedelta,
    report: Callable[[str, int], None] | None = None,
) -> bool:
    """Delete expired rows, and write `ended_at` of sessions that ended with their epoch.

    `report` is called after every batch. Return False if another replica is already pruning.
    """
    for chore in chores(now=now, kept=kept, audit_kept=audit_kept):
        cleared = BATCH
        while cleared >= BATCH:
            async with sessions.begin() as db:
                if not await try_lock(db, Lock.HOUSEKEEPING):
                    return False
                cleared = await chore.clear(db)
            if report:
                report(chore.name, cleared)
    return True


def _removal(
    *key: InstrumentedAttribute[Any], where: ColumnElement[bool]
) -> Callable[[AsyncSession], Awaitable[int]]:
    some = select(*key).where(where).limit(BATCH).with_for_update(skip_locked=True)
    statement = delete(key[0].class_).where(tuple_(*key).in_(some)).returning(*key)
    return partial(_run, statement=statement)


async def _end_earlier_epochs(db: AsyncSession, *, now: datetime) -> int:
    """Set `ended_at` of live rows that ended with their epoch, of BATCH users at most.

    These sessions have ended already. Operators and the previous release read the column.
    """
    users = list(
        await db.scalars(
            select(User.id)
            .where(User.ended_epoch < User.session_epoch)
            .limit(BATCH)
            .with_for_update(key_share=True, skip_locked=True)
        )
    )
    if not users:
        return 0
    earlier = (
        select(Session.id)
        .join(User, User.id == Session.user_id)
        .where(
            User.id.in_(users),
            Session.epoch < User.session_epoch,
            Session.ended_at.is_(None),
            Session.expires_at > now,
            Session.idle_expires_at > now,
        )
        .limit(BATCH)
    )
    end = update(Session).where(Session.id.in_(earlier)).returning(Session.id)
    ended = await _run(db, end.values(ended_at=now, end_reason="all sessions ended"))
    if ended < BATCH:
        done = update(User).where(User.id.in_(users)).values(ended_epoch=User.session_epoch)
        await _run(db, done.returning(User.id))
    return len(users) + ended


async def _run(db: AsyncSession, statement: Executable) -> int:
    """Run it, and return how many rows it returns."""
    options = {"synchronize_session": False}
    return len((await db.execute(statement, execution_options=options)).all())
