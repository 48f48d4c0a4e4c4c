"""Claims: which process sends which mail, by rows alone.

One process sends at a time: it claims no mail while another holds claims. A claim ends by itself,
so the mails of a process that was killed are sent by another one. Nothing outlives a transaction.
"""

import uuid
from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.locks import Lock, take_lock, try_lock
from app.db.work import Actor, Work
from app.mail.models import OutboxMail

LEASE = timedelta(seconds=30)
"""How long a claim lasts, unless it is renewed."""
GIVE_UP_AFTER = timedelta(days=1)
LIMIT = 5
"""Mails to one address within WINDOW, notices not counted."""
FOR_STRANGERS = 3
"""Of these, for what strangers ask for by BY_STRANGERS: they must not use up an owner's reset."""
BY_STRANGERS = {"sign-up", "verify"}
WINDOW = timedelta(hours=1)
FIRST_DELAY = timedelta(seconds=30)
LONGEST_DELAY = timedelta(minutes=30)
"""Within WINDOW, so a mail that is tried again counts all the time."""
OVER_LIMIT = "too many mails within an hour to this address"
INTERRUPTED = "each attempt was interrupted"

WAITING = and_(OutboxMail.sent_at.is_(None), OutboxMail.failed_at.is_(None))


class ClaimLost(Exception):
    """The mail is no longer this process's: its time is over, or its user was erased."""


def is_free(now: datetime) -> ColumnElement[bool]:
    """Return the condition that no process has claimed the mail."""
    return or_(OutboxMail.claimed_until.is_(None), OutboxMail.claimed_until <= now)


def delay_after(attempts: int) -> timedelta:
    """Return how long to wait after so many attempts: it doubles, up to LONGEST_DELAY."""
    doubled: timedelta = FIRST_DELAY * 2 ** min(attempts - 1, 10)
    return min(doubled, LONGEST_DELAY)


async def claim(
    work: Work[Actor], process: uuid.UUID, *, most: int, besides: Collection[uuid.UUID] = ()
) -> tuple[list[OutboxMail], list[OutboxMail]]:
    """Claim mails that are due for this process; return them, and those that were given up.

    Given up is what is over the hourly limit of its address, and what was tried for a day.
    `besides`: mails that this process is sending, however long their claims last by the clock.
    """
    now = work.now
    if not await try_lock(work.db, Lock.MAIL):
        return [], []
    others = exists().where(
        OutboxMail.claimed_by != process, OutboxMail.claimed_until > now, WAITING
    )
    due = (
        select(OutboxMail)
        .where(
            WAITING, OutboxMail.due_at <= now, is_free(now), ~others, OutboxMail.id.not_in(besides)
        )
        .order_by(OutboxMail.due_at)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    rows = (await work.db.scalars(due)).all()
    tried = await _tried_lately(work, {row.address_digest for row in rows})
    claimed: list[OutboxMail] = []
    given_up: list[OutboxMail] = []
    for row in rows:
        counted = tried.setdefault(row.address_digest, set())
        # What is asked for may be no mail: it is looked at once it is composed.
        limited = not (row.notice or row.asked)
        if limited and len(counted - {row.id}) >= LIMIT:
            give_up(row, now, OVER_LIMIT)
        elif row.attempts and row.created_at <= now - GIVE_UP_AFTER:
            give_up(row, now, row.last_error or INTERRUPTED)
        else:
            row.attempts += 1
            row.tried_at = now
            # A mail that ends its process is not tried at once again.
            row.due_at = now + delay_after(row.attempts)
            row.claimed_by, row.claimed_until = process, now + LEASE
            if limited:
                counted.add(row.id)
        (given_up if row.failed_at else claimed).append(row)
    return claimed, given_up


def give_up(row: OutboxMail, now: datetime, why: str) -> None:
    """Give the mail up, and drop its content."""
    row.failed_at, row.last_error, row.body = now, why, None
    row.claimed_by = row.claimed_until = None


async def has_had_its_mails(work: Work[Actor], row: OutboxMail) -> bool:
    """Return whether the row's address has had all mails that its purpose may send in an hour.

    No other process counts or claims until the commit.
    """
    await take_lock(work.db, Lock.MAIL)
    tried = await _tried_lately(work, {row.address_digest})
    limit = FOR_STRANGERS if row.purpose in BY_STRANGERS else LIMIT
    return len(tried.get(row.address_digest, set()) - {row.id}) >= limit


async def _tried_lately(
    work: Work[Actor], digests: Collection[bytes]
) -> dict[bytes, set[uuid.UUID]]:
    """Return the mails to these addresses that were tried or sent within WINDOW."""
    if not digests:
        return {}
    found = await work.db.execute(
        select(OutboxMail.address_digest, OutboxMail.id).where(
            OutboxMail.address_digest.in_(digests),
            OutboxMail.notice.is_(False),
            OutboxMail.asked.is_(False),
            func.coalesce(OutboxMail.sent_at, OutboxMail.tried_at) > work.now - WINDOW,
        )
    )
    lately: dict[bytes, set[uuid.UUID]] = {}
    for digest, mail_id in found:
        lately.setdefault(digest, set()).add(mail_id)
    return lately


async def renew(
    work: Work[Actor], process: uuid.UUID, mails: Collection[uuid.UUID]
) -> set[uuid.UUID]:
    """Renew the claims on these mails; return those that the process still holds."""
    renewed = (
        update(OutboxMail)
        .where(_held(process, work.now), OutboxMail.id.in_(mails))
        .values(claimed_until=work.now + LEASE)
        .returning(OutboxMail.id)
    )
    return set(await work.db.scalars(renewed))


async def note(work: Work[Actor], process: uuid.UUID, mail_id: uuid.UUID, **values: object) -> None:
    """Write what became of a mail that this process holds. Raises ClaimLost."""
    noted = update(OutboxMail).where(OutboxMail.id == mail_id, _held(process, work.now))
    if await work.db.scalar(noted.values(**values).returning(OutboxMail.id)) is None:
        raise ClaimLost


async def note_sent(work: Work[Actor], mail_id: uuid.UUID) -> None:
    """Write that the server took the mail, also after the claim has ended."""
    await work.db.execute(
        update(OutboxMail)
        .where(OutboxMail.id == mail_id, OutboxMail.sent_at.is_(None))
        .values(sent_at=work.now, failed_at=None, last_error=None, **DONE)
    )


DONE: dict[str, object] = {"body": None, "claimed_by": None, "claimed_until": None}
"""What ends a row."""


def _held(process: uuid.UUID, now: datetime) -> ColumnElement[bool]:
    return and_(OutboxMail.claimed_by == process, OutboxMail.claimed_until > now, WAITING)


async def look(db: AsyncSession, now: datetime) -> tuple[int, datetime | None, bool]:
    """Return how many mails wait, when the oldest was written, and whether one can be claimed."""
    due = func.count().filter(OutboxMail.due_at <= now, is_free(now)) > 0
    found = select(func.count(), func.min(OutboxMail.created_at), due).where(WAITING)
    waiting, oldest, is_due = (await db.execute(found)).one()
    return waiting, oldest, is_due
