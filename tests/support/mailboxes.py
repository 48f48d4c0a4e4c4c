"""Mailboxes for tests in which a person reads their mail: a real SMTP server in a thread."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.support.processes import eventually, free_port


@dataclass
class Mailboxes:
    """What came, by recipient, the oldest first."""

    port: int
    texts: dict[str, list[str]] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, str]:
        """Settings by which a service delivers here."""
        url = f"smtp://127.0.0.1:{self.port}?tls=off"
        return {"smtp_url": url, "mail_from": "Shop <no-reply@shop.example>"}

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Keep a mail's text."""
        message = message_from_bytes(envelope.original_content or b"", policy=policy.default)
        body = message.get_body(("plain",))
        assert body is not None
        for recipient in envelope.rcpt_tos:
            self.texts.setdefault(recipient, []).append(body.get_content())
        return "250 2.0.0 Ok"

    def next_link(self, recipient: str) -> str:
        """The link in the mail that comes next to this address."""
        eventually(lambda: self.texts.get(recipient))
        text = self.texts[recipient].pop(0)
        (link,) = re.findall(r"https?://\S+", text)
        return str(link)


@contextmanager
def mailboxes() -> Iterator[Mailboxes]:
    """Take mails for all addresses meanwhile."""
    found = Mailboxes(free_port())
    controller = Controller(found, hostname="127.0.0.1", port=found.port)
    controller.start()
    try:
        yield found
    finally:
        controller.stop()
