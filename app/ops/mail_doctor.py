"""What the doctor checks of mail: the server, the sender, and what waits."""

from datetime import timedelta

from sqlalchemy import func, select

from app.mail.claims import look
from app.mail.smtp import NotDelivered, Smtp
from app.mail_settings import SmtpServer, sender_address
from app.ops.findings import Finding
from app.runtime import Runtime
from app.settings import Settings

LONGEST_WAIT = timedelta(minutes=15)
"""A mail that is older than this waits for a server that refuses it, or for a sender."""
RESERVED = ("test", "example", "invalid", "localhost", "localdomain", "local", "internal")
"""Domains that no other server knows (RFC 6761, RFC 6762)."""


async def server_of(settings: Settings) -> Finding:
    """Whether there is a server that takes mails."""
    server = settings.smtp_server
    if server is None:
        if settings.environment == "development":
            return Finding("mail", "ok", "written into the log: SCOPEGATE_SMTP_URL is not set")
        remedy = "set SCOPEGATE_SMTP_URL and SCOPEGATE_MAIL_FROM, or hand links over yourself: "
        remedy += "see docs/how-to/deliver-mail.md"
        found = "none is sent: SCOPEGATE_SMTP_URL is not set"
        return Finding("mail", "warning", found, remedy)
    try:
        async with Smtp.of(settings, server).connected():
            return Finding("mail", "ok", f"{server} greets{_and_what_else(server)}")
    except NotDelivered as problem:
        told = f" ({problem.told})" if problem.told else ""
        remedy = "see what SCOPEGATE_SMTP_URL says, and whether a firewall lets this machine out"
        return Finding("mail", "wrong", f"{server}: {problem}{told}", remedy)


def _and_what_else(server: SmtpServer) -> str:
    encrypted = ", in the clear" if server.tls == "off" else ", is encrypted and trusted"
    return f"{encrypted}, and takes the login" if server.username else encrypted


def sender_of(settings: Settings) -> Finding:
    """Whether mails come from an address in a public domain: mail servers refuse others."""
    if settings.mail_from is None:
        return Finding("mail from", "ok", "nothing is sent")
    sender = sender_address(settings.mail_from)
    domain = sender.domain.lower().rstrip(".")
    if "." not in domain or domain.rpartition(".")[2] in RESERVED:
        remedy = "set SCOPEGATE_MAIL_FROM to an address in a domain of yours"
        return Finding("mail from", "warning", f"{sender.addr_spec}: no server knows it", remedy)
    return Finding("mail from", "ok", sender.addr_spec)


async def outbox_of(runtime: Runtime) -> Finding:
    """Whether mails wait too long."""
    async with runtime.reading() as db:
        now = (await db.execute(select(func.now()))).scalar_one()
        waiting, oldest, _ = await look(db, now)
    if oldest is None:
        return Finding("outbox", "ok", "nothing waits")
    age = now - oldest
    found = f"{waiting} wait, the oldest for {int(age.total_seconds() // 60)} minutes"
    if age <= LONGEST_WAIT:
        return Finding("outbox", "ok", found)
    remedy = "scopegate mail list says why; once that is mended: scopegate mail retry"
    return Finding("outbox", "warning", found, remedy)
