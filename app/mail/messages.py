"""Messages: a mail as it goes over the wire (RFC 5322)."""

import re
import uuid
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime

import idna

from app.errors import ScopegateError
from app.mail.sealing import Mail
from app.mail.templates import MailTemplates
from app.mail_settings import sender_address
from app.settings import Settings

# Seven bits: then any server takes it, and no line is too long.
ASCII = policy.SMTP.clone(cte_type="7bit")
UTF8 = policy.SMTPUTF8
# What Python's parser and writer of headers raise for an address that is none.
_UNWRITABLE = (MessageError, ValueError, LookupError, AttributeError)
# RFC 5322's dot-atom, with RFC 6532's characters. What would need quotation marks is no address
# that people have, and a way to write two of them.
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\u0080-\U0010ffff-]+")
_DOMAIN = re.compile(r"[A-Za-z0-9.-]+")
LONGEST_ADDRESS = 254
"""RFC 5321 §4.5.3.1.3: a path has 256 octets, with its brackets."""


class NoAddress(ScopegateError):
    """No message can be written to this address."""

    text = "no message can be written to such an address"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message, and what the server is told of it."""

    sender: str
    recipient: str
    content: bytes
    needs_utf8: bool
    """Whether the server must know SMTPUTF8 (RFC 6531)."""
    shown: str
    """Its subject and text, for the log of development."""


@dataclass(frozen=True, slots=True)
class MessageWriter:
    """Writes messages from one sender."""

    templates: MailTemplates
    sender: Address

    @classmethod
    def of(cls, settings: Settings) -> "MessageWriter":
        """Return the writer for these settings. Raises ConfigurationError for a wrong template."""
        # Without a server mails are only logged.
        sender = sender_address(settings.mail_from or "no-reply@localhost.localdomain")
        if not sender.display_name:
            sender = Address(settings.brand_name, addr_spec=sender.addr_spec)
        return cls(MailTemplates.of(settings), sender)

    def write(self, mail_id: uuid.UUID, mail: Mail, *, at: datetime) -> Envelope:
        """Return the message: the same id and time at each attempt. Raises NoAddress."""
        recipient = ascii_domain(mail.to)
        needs_utf8 = not recipient.addr_spec.isascii()
        said = self.templates.render(mail.template, mail.values)
        message = EmailMessage(UTF8 if needs_utf8 else ASCII)
        try:
            message["From"] = self.sender
            message["To"] = recipient
            message["Subject"] = said.subject
            message["Date"] = format_datetime(at)
            message["Message-ID"] = f"<{mail_id}@{self.sender.domain}>"
            # No vacation notice answers it (RFC 3834 §5), nor does Exchange.
            message["Auto-Submitted"] = "auto-generated"
            message["X-Auto-Response-Suppress"] = "All"
            message.set_content(said.text)
            message.add_alternative(said.html, subtype="html")
            content = message.as_bytes()
        except _UNWRITABLE:
            raise NoAddress from None
        return Envelope(
            sender=self.sender.addr_spec,
            recipient=recipient.addr_spec,
            content=content,
            needs_utf8=needs_utf8,
            shown=f"Subject: {said.subject}\n\n{said.text}",
        )


def ascii_domain(address: str) -> Address:
    """Return the address with its domain as DNS has it (RFC 5891). Raises NoAddress."""
    local, _, domain = address.rpartition("@")
    try:
        if not domain.isascii():
            domain = idna.encode(domain, uts46=True).decode()
        found = Address(username=local, domain=domain)
    except (*_UNWRITABLE, idna.IDNAError):
        raise NoAddress from None
    if not (_LOCAL_PART.fullmatch(local) and _DOMAIN.fullmatch(domain) and local.isprintable()):
        raise NoAddress
    if len(found.addr_spec.encode()) > LONGEST_ADDRESS:
        raise NoAddress
    return found
