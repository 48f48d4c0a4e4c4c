"""Housekeeping: delete expired rows in small batches, on one replica at a time."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Executable, and_, delete, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.dml import ReturningDelete
from uuid_utils.compat import uuid7

from app.audit.models import AuditEntry
from app.db.locks import Lock, try_lock
from app.identity.erased_names import NAMES_KEPT
from app.identity.erasure import remove_erased
from app.identity.models import (
    AccountLink,
    Consent,
    ErasedName,
    FailureBudget,
    KnownNetwork,
    Registration,
    Session,
    SignUp,
    User,
)
from app.identity.networks import KNOWN_FOR
from app.identity.throttle import SLACK
from app.mail.models import OutboxMail
from app.tokens.models import AuthorizationCode, OpaqueToken, SigningKey

CODES_KEPT = timedelta(days=1)
MAILS_KEPT = timedelta(days=7)
"""After they were sent or given up; longer than the window of the hourly limit."""
MAILS_USEFUL = timedelta(days=14)
"""No link in a mail is good for that long. Without a server, mails wait until then."""
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
            # Kept for a while: the reuse of a code ends the session that was opened for it.
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
        *_chores_of_accounts(now=now),
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
        Chore("mails", _mails(now)),
        Chore("audit entries", _removal(AuditEntry.id, where=AuditEntry.at <= now - audit_kept)),
    ]


def _chores_of_accounts(*, now: datetime) -> list[Chore]:
    return [
        # Who has confirmed the address, or was given a password, has one.
        Chore("unconfirmed sign-ups", partial(_erase_unconfirmed, now=now)),
        Chore(
            "sign-ups",
            _removal(
                SignUp.user_id,
                where=and_(
                    SignUp.expires_at <= now,
                    # Of the others the account goes first: it may be locked just now.
                    SignUp.user_id.in_(select(User.id).where(User.password_hash.is_not(None))),
                ),
            ),
        ),
        Chore("account links", _removal(AccountLink.id, where=AccountLink.expires_at <= now)),
    ]


async def _erase_unconfirmed(db: AsyncSession, *, now: datetime) -> int:
    """Delete accounts that were never confirmed, and say so in the audit log.

    They have done nothing, and were told to few: their names are free at once.
    """
    expired = select(SignUp.user_id).where(SignUp.expires_at <= now)
    remove = _removal_of(User.id, where=and_(User.id.in_(expired), User.password_hash.is_(None)))
    erased = list(await db.scalars(remove, execution_options={"synchronize_session": False}))
    detail = {"reason": "never confirmed"}
    db.add_all(
        AuditEntry(id=uuid7(), action="account.erased", subject=each, detail=detail)
        for each in erased
    )
    return len(erased)


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
    return partial(_run, statement=_removal_of(*key, where=where))


def _removal_of(
    *key: InstrumentedAttribute[Any], where: ColumnElement[bool]
) -> ReturningDelete[Any]:
    some = select(*key).where(where).limit(BATCH).with_for_update(skip_locked=True)
    return delete(key[0].class_).where(tuple_(*key).in_(some)).returning(*key)


def _mails(now: datetime) -> Callable[[AsyncSession], Awaitable[int]]:
    return _removal(
        OutboxMail.id,
        where=or_(
            OutboxMail.sent_at <= now - MAILS_KEPT,
            OutboxMail.failed_at <= now - MAILS_KEPT,
            OutboxMail.created_at <= now - MAILS_USEFUL,
        ),
    )


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
