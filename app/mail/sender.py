"""The sender: delivers what waits in the outbox, many mails at once, in one process at a time."""

import asyncio
import logging
import uuid
from contextlib import suppress
from functools import partial
from typing import Protocol

from sqlalchemy.exc import DBAPIError
from uuid_utils.compat import uuid7

from app.db.engine import DATABASE_GONE
from app.db.work import Actor, Database, Work
from app.mail import claims
from app.mail.claims import LEASE, ClaimLost
from app.mail.messages import Envelope, MessageWriter, NoAddress
from app.mail.models import OutboxMail
from app.mail.outbox import Asked, Mail, Mailer
from app.mail.sealing import UnreadableMail
from app.mail.smtp import Acknowledged, NotDelivered, Smtp
from app.settings import Settings

logger = logging.getLogger(__name__)

THE_SERVICE = Actor()
AT_ONCE = 20
"""Deliveries at once: where one waits for a silent server, the others go on."""
POLL_INTERVAL = 2.0
"""Seconds between two looks for what other processes have written, or what is due again."""
RENEW_INTERVAL = 5.0
"""Seconds between two renewals of the claims."""
MARGIN = 5.0
"""Seconds before the end of a claim at which its delivery is cancelled."""
RETRY_INTERVAL = 0.5
"""Seconds until it is tried again to write that a mail was sent."""
DRAIN = 5.0
"""Seconds that deliveries get when the process ends."""


class Transport(Protocol):
    """Delivers a message. Raises NotDelivered, and what `acknowledged` raises."""

    async def deliver(self, envelope: Envelope, acknowledged: Acknowledged) -> None:
        """Deliver it, and say so before anything else is done."""


class LogTransport:
    """Writes mails into the log. For development without a server: they have links in them."""

    async def deliver(self, envelope: Envelope, acknowledged: Acknowledged) -> None:
        """Log the mail."""
        logger.info("A mail, as SCOPEGATE_SMTP_URL is not set\nTo: %s\n%s", *_shown(envelope))
        await acknowledged("logged")


def _shown(envelope: Envelope) -> tuple[str, str]:
    return envelope.recipient, envelope.shown


def transport_of(settings: Settings) -> Transport | None:
    """Return what delivers with these settings; None in production without a server."""
    if server := settings.smtp_server:
        return Smtp.of(settings, server)
    return LogTransport() if settings.environment == "development" else None


class Sender:
    """Delivers mails until it is cancelled."""

    def __init__(self, database: Database, mailer: Mailer, settings: Settings) -> None:
        self._database = database
        self._mailer = mailer
        self._transport = transport_of(settings)
        self._writer = MessageWriter.of(settings)
        self._process = uuid7()
        self._deliveries: dict[uuid.UUID, asyncio.Task[None]] = {}
        self._held: dict[uuid.UUID, asyncio.Timeout] = {}
        """When each delivery is cancelled, unless its claim is renewed."""

    async def run(self) -> None:
        """Deliver what is due, now and whenever there is something."""
        if self._transport is None:
            logger.warning("SCOPEGATE_SMTP_URL is not set: no mail is sent")
        renewing = asyncio.create_task(self._renew())
        try:
            while True:
                self._mailer.awake.clear()
                try:
                    await self._round()
                except (DBAPIError, *DATABASE_GONE) as error:
                    logger.warning("the outbox can't be read just now: %s", type(error).__name__)
                except Exception:
                    # Whatever it was: the next round may succeed, and no mail may wait for ever.
                    logger.exception("the outbox can't be read")
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_INTERVAL):
                        await self._mailer.awake.wait()
        finally:
            renewing.cancel()
            await self._end()

    async def _round(self) -> None:
        """Look into the outbox, and begin to deliver what is due."""
        counts = self._mailer.counts
        async with self._database.reading() as db:
            counts.waiting, counts.oldest, due = await claims.look(db, self._database.now())
        free = AT_ONCE - len(self._deliveries)
        if self._transport is None or not due or free <= 0:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + LEASE.total_seconds() - MARGIN
        async with self._database.work(THE_SERVICE) as work:
            claimed, given_up = await claims.claim(
                work, self._process, most=free, besides=set(self._deliveries)
            )
        for row in given_up:
            self._count_failed(row, str(row.last_error))
        for row in claimed:
            self._held[row.id] = asyncio.timeout_at(until)
            task = asyncio.create_task(self._deliver(row, self._transport))
            self._deliveries[row.id] = task
            task.add_done_callback(partial(self._forget, row.id))

    def _forget(self, mail_id: uuid.UUID, _task: asyncio.Task[None]) -> None:
        del self._deliveries[mail_id], self._held[mail_id]
        # There may be more than were claimed.
        self._mailer.awake.set()

    async def _deliver(self, row: OutboxMail, transport: Transport) -> None:
        """Deliver a mail, and write what became of it. Raises nothing but a cancellation."""
        held = self._held[row.id]
        try:
            async with held:
                try:
                    await self._attempt(row, transport)
                except NotDelivered as problem:
                    await self._note_failure(row, problem)
        except Exception as error:
            # As its row says: the claim ends by itself.
            lost = isinstance(error, ClaimLost) or held.expired()
            known = lost or isinstance(error, (DBAPIError, *DATABASE_GONE))
            why = "its claim was lost" if lost else type(error).__name__
            trace = None if known else error
            logger.warning("a mail was interrupted: %s", why, extra=_of(row), exc_info=trace)

    async def _attempt(self, row: OutboxMail, transport: Transport) -> None:
        """Deliver the mail. Raises NotDelivered or ClaimLost."""
        try:
            content = self._mailer.sealing.open(row.id, row.body or "")
        except UnreadableMail as error:
            raise NotDelivered(str(error)) from None
        mail = await self._compose(row, content) if isinstance(content, Asked) else content
        if mail is None:
            return
        try:
            envelope = self._writer.write(row.id, mail, at=row.created_at)
        except NoAddress as error:
            raise NotDelivered(str(error), permanent=True) from None
        await transport.deliver(envelope, partial(self._note_sent, row))

    async def _compose(self, row: OutboxMail, asked: Asked) -> Mail | None:
        """Find out which mail was asked for, and keep it: a retry sends the same.

        Raises NotDelivered or ClaimLost.
        """
        composer = self._mailer.composers.get(asked.purpose)
        if composer is None:
            raise NotDelivered("this version does not know what was asked for")
        try:
            async with self._database.work(Actor(None, asked.origin)) as work:
                mail = await composer(work, asked)
                if mail is not None:
                    # Else its link goes with it: the one in the last mail stays good.
                    await _require_room(work, row)
                values = {**claims.DONE, "sent_at": work.now}
                if mail is not None:
                    values = self._mailer.composed(row.id, mail)
                await claims.note(work, self._process, row.id, **values)
        except (ClaimLost, NotDelivered):
            raise
        except Exception as error:
            logger.warning("a mail could not be composed", extra=_of(row), exc_info=error)
            raise NotDelivered(f"it could not be composed: {type(error).__name__}") from None
        return mail

    async def _note_sent(self, row: OutboxMail, _answer: str) -> None:
        """Write that the server took the mail, as soon as the database is there."""
        # Not cancelled any more: what is not written here is sent once again.
        _reschedule(self._held[row.id], None)
        while True:
            try:
                async with self._database.work(THE_SERVICE) as work:
                    await claims.note_sent(work, row.id)
                break
            except (DBAPIError, *DATABASE_GONE) as error:
                why = type(error).__name__
                logger.warning("a mail that was sent can't be marked yet: %s", why, extra=_of(row))
                await asyncio.sleep(RETRY_INTERVAL)
        self._mailer.counts.sent += 1
        logger.info("mail.sent", extra=_of(row))

    async def _note_failure(self, row: OutboxMail, problem: NotDelivered) -> None:
        """Write that the attempt failed, and when the next one is, if there is one."""
        why = str(problem)
        async with self._database.work(THE_SERVICE) as work:
            due_at = work.now + claims.delay_after(row.attempts)
            gives_up = problem.permanent or due_at > row.created_at + claims.GIVE_UP_AFTER
            values: dict[str, object] = {
                **(claims.DONE if gives_up else {"claimed_by": None, "claimed_until": None}),
                **({"failed_at": work.now} if gives_up else {"due_at": due_at}),
                "last_error": why,
            }
            await claims.note(work, self._process, row.id, **values)
        if gives_up:
            self._count_failed(row, why)
        else:
            logger.info("a mail is tried again later: %s", why, extra=_of(row))

    def _count_failed(self, row: OutboxMail, why: str) -> None:
        self._mailer.counts.failed += 1
        logger.warning("a mail was given up: %s", why, extra=_of(row))

    async def _renew(self) -> None:
        """Renew the claims from time to time; cancel deliveries whose claim is lost."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(RENEW_INTERVAL)
            mails = set(self._deliveries)
            if not mails:
                continue
            until = loop.time() + LEASE.total_seconds() - MARGIN
            try:
                async with self._database.work(THE_SERVICE) as work:
                    held = await claims.renew(work, self._process, mails)
            except Exception as error:  # noqa: BLE001 - as in `run`
                # Where this goes on, the deliveries end before their claims do.
                logger.warning("claims on mails can't be renewed: %s", type(error).__name__)
                continue
            for mail_id in mails & self._held.keys():
                # Without a time, the server has taken it.
                if self._held[mail_id].when() is not None:
                    _reschedule(self._held[mail_id], until if mail_id in held else loop.time())

    async def _end(self) -> None:
        """Wait a while for the server's answers. Another process sends what is not done then.

        The caller cancels this again and again, which does not cut the time short.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN
        while self._deliveries and (left := deadline - loop.time()) > 0:
            with suppress(asyncio.CancelledError):
                await asyncio.wait(self._deliveries.values(), timeout=left)
        for task in self._deliveries.values():
            task.cancel()


async def _require_room(work: Work[Actor], row: OutboxMail) -> None:
    """Return only if the row's address may have one more mail in this hour. Raises NotDelivered."""
    if await claims.has_had_its_mails(work, row):
        raise NotDelivered(claims.OVER_LIMIT, permanent=True)


def _reschedule(timeout: asyncio.Timeout, when: float | None) -> None:
    """Have it end then. It may have ended already, a moment ago."""
    with suppress(RuntimeError):
        timeout.reschedule(when)


def _of(row: OutboxMail) -> dict[str, str]:
    """What the log says of a mail: no address, and nothing of its content."""
    return {"mail": str(row.id), "purpose": row.purpose}
