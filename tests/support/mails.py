"""A real SMTP server for tests: it keeps what it takes, and misbehaves as told."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from sqlalchemy import select, text
from uuid_utils.compat import uuid7

from app.db.work import Actor
from app.mail.messages import Envelope as MailEnvelope
from app.mail.messages import MessageWriter
from app.mail.models import OutboxMail
from app.mail.outbox import Composer, Mail
from app.mail.sender import Sender
from app.ops.background import end
from app.runtime import Runtime
from tests.conftest import settings_for

LINK = "https://auth.example/verify-email#a-token-that-is-secret"
VALUES = {"username": "alice", "link": LINK}
FROM = "Shop <no-reply@shop.example>"
TAKEN = "250 2.0.0 Ok: queued"


@dataclass
class Taken:
    """A mail that the server has, acknowledged or not."""

    sender: str
    recipient: str
    content: bytes

    @property
    def message(self) -> EmailMessage:
        """The message, parsed."""
        message = message_from_bytes(self.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        return message

    def part(self, kind: str) -> str:
        """Its text (`plain`) or HTML."""
        body = self.message.get_body((kind,))
        assert isinstance(body, EmailMessage)
        return str(body.get_content())


@dataclass
class MailServer:
    """What it took, and how it answers: by recipient, what RCPT and DATA get."""

    taken: list[Taken] = field(default_factory=list)
    recipients: dict[str, str] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)
    asked: int = 0
    """Connections."""
    connected: set[SMTP] = field(default_factory=set)
    """Those whose other end is still there."""
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    """Of each mail, whether it came over TLS."""
    silent: set[str] = field(default_factory=set)
    """Recipients whose mails are taken, and get no answer."""
    cut: set[str] = field(default_factory=set)
    """Recipients whose mails are taken, and the connection is cut in place of an answer."""
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    """Set: those that got no answer get it."""
    port: int = 0

    def to(self, recipient: str) -> list[Taken]:
        """Return what it took for this recipient."""
        return [each for each in self.taken if each.recipient == recipient]

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        answer = self.recipients.get(address, "250 2.1.5 Ok")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        (recipient,) = envelope.rcpt_tos
        answer = self.contents.get(recipient, TAKEN)
        if answer.startswith("250"):
            content = envelope.original_content or b""
            self.taken.append(Taken(str(envelope.mail_from), recipient, content))
            self.encrypted.append(session.ssl is not None or self._implicit)
        if recipient in self.cut:
            assert isinstance(server.transport, asyncio.WriteTransport)
            server.transport.abort()
        if recipient in self.silent:
            await self.answers.wait()
        return answer

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login, data.password))
        is_right = data.password == b"p@ss/word"
        return AuthResult(success=is_right, handled=is_right)

    _implicit = False


class _Connection(SMTP):
    """A connection that tells the server when its other end has gone."""

    event_handler: MailServer

    def eof_received(self) -> bool | None:
        self.event_handler.connected.discard(self)
        return super().eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self.event_handler.connected.discard(self)
        super().connection_lost(error)


@asynccontextmanager
async def mail_server(
    tls: ssl.SSLContext | None = None,
    *,
    host: str = "127.0.0.1",
    implicit: bool = False,
    utf8: bool = True,
) -> AsyncIterator[MailServer]:
    """A server on loopback; with `tls` it wants STARTTLS and a login, or TLS at once."""
    loop = asyncio.get_running_loop()
    server = MailServer()
    server._implicit = implicit
    transports: set[Any] = set()

    def connected() -> SMTP:
        server.asked += 1
        protocol = _Connection(
            server,
            hostname="mail.test",
            enable_SMTPUTF8=utf8,
            tls_context=None if implicit else tls,
            require_starttls=tls is not None and not implicit,
            auth_required=tls is not None and not implicit,
            auth_require_tls=not implicit,
            authenticator=server.authenticate if tls else None,
            loop=loop,
        )
        transports.add(protocol)
        server.connected.add(protocol)
        return protocol

    listening = await loop.create_server(connected, host, 0, ssl=tls if implicit else None)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        server.answers.set()
        listening.close()
        for protocol in transports:
            if protocol.transport:
                protocol.transport.abort()


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """A server that accepts connections and says nothing: its port."""
    writers = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


def smtp_settings(port: int, **more: object) -> dict[str, Any]:
    """Settings by which mails go to this port on loopback."""
    return {"smtp_url": f"smtp://127.0.0.1:{port}?tls=off", "mail_from": FROM, **more}


def sender_of(
    runtime: Runtime, port: int, composers: Mapping[str, Composer] | None = None, **more: object
) -> Sender:
    """A sender of this runtime, as a process has it."""
    url = runtime.engine.url.render_as_string(hide_password=False)
    settings = settings_for(url, **{**smtp_settings(port), **more})
    mailer = replace(runtime.mailer, composers=composers or {}) if composers else runtime.mailer
    return Sender(runtime.database, mailer, settings)


@asynccontextmanager
async def sending(sender: Sender) -> AsyncIterator[None]:
    """Let the sender run meanwhile."""
    task = asyncio.create_task(sender.run())
    try:
        yield
    finally:
        await end([task])


async def write(runtime: Runtime, *mails: Mail) -> None:
    """Write these mails into the outbox."""
    async with runtime.work(Actor()) as work:
        for mail in mails:
            runtime.mailer.send(work, mail)


async def rows(runtime: Runtime) -> list[OutboxMail]:
    """The outbox, the oldest first."""
    async with runtime.sessions() as db:
        return list(await db.scalars(select(OutboxMail).order_by(OutboxMail.id)))


async def until_rows(
    runtime: Runtime, condition: Callable[[list[OutboxMail]], object]
) -> list[OutboxMail]:
    """Wait until the outbox is like that; return it."""
    while True:
        found = await rows(runtime)
        if condition(found):
            return found
        await asyncio.sleep(0.02)


def ended(found: list[OutboxMail]) -> bool:
    return bool(found) and all(row.sent_at or row.failed_at for row in found)


def tried(times: int) -> Callable[[list[OutboxMail]], bool]:
    """The only mail was tried so often, and is not being sent."""

    def is_so(found: list[OutboxMail]) -> bool:
        return found[0].attempts == times and found[0].claimed_by is None

    return is_so


async def dump(runtime: Runtime) -> str:
    """Every column of the outbox, as text, but for the sealed bodies."""
    async with runtime.sessions() as db:
        found = await db.execute(text("SELECT to_jsonb(outbox) - 'body' FROM outbox"))
        return re.sub(r"\s+", " ", str(found.all()))


def envelope_to(address: str) -> MailEnvelope:
    """A message to this address."""
    settings = settings_for("postgresql://nowhere", mail_from=FROM)
    mail = Mail("verify-email", address, VALUES)
    return MessageWriter.of(settings).write(uuid7(), mail, at=datetime.now(UTC))
