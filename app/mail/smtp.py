"""Delivery by SMTP (RFC 5321), over TLS unless the server is on this machine."""

import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPResponseException,
)
from aiosmtplib.errors import SMTPDataError, SMTPSenderRefused, SMTPServerDisconnected

from app.errors import ScopegateError
from app.mail.messages import Envelope
from app.mail_settings import SmtpServer
from app.settings import Settings

GREETING = 30.0
"""Seconds to connect, and for each answer until mail may be sent."""
ENVELOPE = 300.0
"""Seconds for an answer to MAIL and RCPT: RFC 5321 §4.5.3.2.2 and 3."""
CONTENT = 600.0
"""Seconds for an answer to the message: RFC 5321 §4.5.3.2.6."""
GOODBYE = 5.0
"""Seconds for an answer to QUIT: the mail is delivered by then."""
_STATUS = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9.])")
_STAGES: dict[type[SMTPException], str] = {
    SMTPAuthenticationError: "the login",
    SMTPSenderRefused: "the sender",
    SMTPRecipientRefused: "the recipient",
    SMTPDataError: "the message",
}

Acknowledged = Callable[[str], Awaitable[None]]
"""Called with what the server said, before anything else is said to it."""


class NotDelivered(ScopegateError):
    """The mail was not delivered. The text has no address; `told` may have one."""

    def __init__(self, text: str, *, permanent: bool = False, told: str = "") -> None:
        super().__init__(text)
        self.permanent = permanent
        """Whether the server said that another attempt is of no use."""
        self.told = told
        """What the server said, for an operator at a terminal."""


@dataclass(frozen=True, slots=True)
class Smtp:
    """The way to one server. Each delivery has a connection of its own."""

    server: SmtpServer
    hostname: str
    """What this service calls itself."""

    @classmethod
    def of(cls, settings: Settings, server: SmtpServer) -> "Smtp":
        """Return the way to this server."""
        return cls(server, _own_name(settings.token_issuer))

    async def deliver(self, envelope: Envelope, acknowledged: Acknowledged) -> None:
        """Deliver the message. Raises NotDelivered, and what `acknowledged` raises."""
        async with self.connected() as smtp:
            await acknowledged(await _transmit(smtp, envelope))

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[SMTP]:
        """Yield a connection that has greeted, is encrypted and logged in. Raises NotDelivered."""
        server = self.server
        # The system's trust store, or what SSL_CERT_FILE names.
        context = None if server.tls == "off" else ssl.create_default_context()
        smtp = SMTP(
            hostname=server.host,
            port=server.port,
            username=server.username,
            password=server.password.get_secret_value() if server.password else None,
            local_hostname=self.hostname,
            timeout=GREETING,
            use_tls=server.tls == "tls",
            start_tls=server.tls == "starttls",
            tls_context=context,
        )
        try:
            await smtp.connect()
            if smtp.is_ehlo_or_helo_needed:
                await smtp.ehlo()
        except (SMTPException, OSError, ValueError, UnicodeError) as error:
            smtp.close()
            raise _why_not(error) from None
        try:
            yield smtp
            with suppress(SMTPException, OSError):
                await smtp.quit(timeout=GOODBYE)
        finally:
            smtp.close()


async def _transmit(smtp: SMTP, envelope: Envelope) -> str:
    """Send the message, and return what the server said. Raises NotDelivered."""
    options, encoding = [], "ascii"
    if envelope.needs_utf8:
        if not smtp.supports_extension("smtputf8"):
            raise NotDelivered(
                "the server knows no SMTPUTF8, which this address needs", permanent=True
            )
        options, encoding = ["SMTPUTF8", "BODY=8BITMIME"], "utf-8"
    try:
        await smtp.mail(envelope.sender, options=options, encoding=encoding, timeout=ENVELOPE)
        await smtp.rcpt(envelope.recipient, encoding=encoding, timeout=ENVELOPE)
        answer = await smtp.data(envelope.content, timeout=CONTENT)
    except (SMTPException, OSError, ValueError, UnicodeError) as error:
        raise _why_not(error) from None
    return f"{answer.code} {answer.message}"


def _why_not(error: Exception) -> NotDelivered:
    """Return the error that says it without an address."""
    cause = error.__cause__ or error
    if isinstance(error, SMTPResponseException):
        stage = next((text for kind, text in _STAGES.items() if isinstance(error, kind)), "it")
        status = _STATUS.match(error.message)
        code = f"{error.code} {status[1]}" if status else str(error.code)
        # Another attempt can help where the service is set up wrong, so the login and the sender
        # are tried again.
        permanent = stage in {"the recipient", "the message"} and 500 <= error.code < 600
        told = f"{error.code} {error.message}"
        return NotDelivered(f"the server refused {stage}: {code}", permanent=permanent, told=told)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return NotDelivered(f"the server's certificate is not trusted: {cause.verify_message}")
    if isinstance(cause, ssl.SSLError):
        return NotDelivered("no encrypted connection can be made", told=str(cause))
    if isinstance(error, TimeoutError):
        return NotDelivered("the server did not answer in time")
    if isinstance(error, SMTPServerDisconnected):
        return NotDelivered("the server ended the connection")
    if isinstance(error, OSError):
        return NotDelivered("the server can't be reached", told=str(cause))
    return NotDelivered("the server can't take it", told=str(error))


def _own_name(issuer: str) -> str:
    """Return the name of this service in EHLO: its issuer's host (RFC 5321 §4.1.3)."""
    host = urlsplit(issuer).hostname or "localhost"
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"
