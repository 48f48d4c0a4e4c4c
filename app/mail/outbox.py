"""The outbox: a mail is a row, written in the transaction that causes it."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from uuid_utils.compat import uuid7

from app.db.work import Actor, Work
from app.mail.addresses import address_key
from app.mail.models import OutboxMail
from app.mail.sealing import Asked, Mail, Sealing, Template
from app.settings import Settings

__all__ = ["Asked", "Composer", "Mail", "Mailer", "Template"]

Composer = Callable[[Work[Actor], Asked], Awaitable[Mail | None]]
"""Returns the mail that was asked for, or None. Its unit of work commits with the mail."""


@dataclass(slots=True)
class Counts:
    """What this process has done, and what it saw at its last look into the outbox."""

    sent: int = 0
    failed: int = 0
    waiting: int | None = None
    oldest: datetime | None = None
    """When the oldest of those that wait was written."""


@dataclass(frozen=True, slots=True)
class Mailer:
    """Writes mails into the outbox. The sender, in this process or another, delivers them.

    Each mail is delivered once, or twice where the acknowledgement of the server was lost. To one
    address go five an hour, notices not counted: the sender gives up what is over that.
    """

    sealing: Sealing
    composers: Mapping[str, Composer]
    """By what is asked for."""
    is_on: bool
    """False in production without an SMTP server: then nothing is written."""
    counts: Counts = field(default_factory=Counts)
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there may be something to send."""

    @classmethod
    def of(
        cls, settings: Settings, secret_keys: list[str], composers: Mapping[str, Composer]
    ) -> "Mailer":
        """Return the mailer for these settings."""
        is_on = settings.smtp_url is not None or settings.environment == "development"
        return cls(Sealing(secret_keys), composers, is_on)

    def send(self, work: Work[Actor], mail: Mail) -> None:
        """Add the mail, to be sent after the commit."""
        mail_id = uuid7()
        row = OutboxMail(
            id=mail_id,
            purpose=mail.template,
            user_id=mail.user_id,
            notice=mail.notice,
            body=self.sealing.seal(mail_id, mail),
        )
        self._add(work, row, to=mail.to)

    def ask(self, work: Work[Actor], asked: Asked) -> None:
        """Add what was asked for. After the commit the sender composes the mail, if there is one.

        A request does the same work here for an address with an account and for one without.
        """
        mail_id = uuid7()
        body = self.sealing.seal(mail_id, asked)
        row = OutboxMail(id=mail_id, purpose=asked.purpose, asked=True, notice=False, body=body)
        self._add(work, row, to=asked.to)

    def digest(self, address: str) -> bytes:
        """Return the digest that rows have of this address."""
        return self.sealing.digest(address_key(address))

    def composed(self, mail_id: uuid.UUID, mail: Mail) -> dict[str, object]:
        """Return what a row gets once its mail is composed."""
        body = self.sealing.seal(mail_id, mail)
        return {"body": body, "user_id": mail.user_id, "asked": False}

    def _add(self, work: Work[Actor], row: OutboxMail, *, to: str) -> None:
        if not self.is_on:
            return
        row.address_digest = self.digest(to)
        row.created_at = row.due_at = work.now
        work.db.add(row)
        work.after_commit(self.awake.set)
