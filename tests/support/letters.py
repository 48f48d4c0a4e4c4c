"""What was mailed, as the person who gets it sees it."""

from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

from sqlalchemy import delete, select

from app.db.work import NOWHERE, Actor
from app.identity.address_writes import set_verified_address
from app.mail.addresses import parse_address
from app.mail.models import OutboxMail
from app.mail.outbox import Asked, Mail
from app.runtime import Runtime
from tests.support.factories import OPERATOR, Someone, make_user

ADDRESS = "alice@example.com"


async def delivered(runtime: Runtime) -> list[Mail]:
    """The mails that came of all requests since the last look, composed as the sender does it."""
    found: list[Mail] = []
    mailer = runtime.mailer
    while waiting := await _waiting(runtime):
        for row in waiting:
            content = mailer.sealing.open(row.id, row.body or "")
            origin = content.origin if isinstance(content, Asked) else NOWHERE
            async with runtime.work(Actor(None, origin)) as work:
                await work.db.execute(delete(OutboxMail).where(OutboxMail.id == row.id))
                if isinstance(content, Asked):
                    composed = await mailer.composers[content.purpose](work, content)
                    found += [composed] if composed else []
                else:
                    # What the sealed content does not say, its row does.
                    found.append(replace(content, user_id=row.user_id, notice=row.notice))
    return found


async def _waiting(runtime: Runtime) -> list[OutboxMail]:
    async with runtime.sessions() as db:
        return list(await db.scalars(select(OutboxMail).order_by(OutboxMail.id)))


async def only_mail(runtime: Runtime) -> Mail:
    """The one mail since the last look."""
    (mail,) = await delivered(runtime)
    return mail


def token_in(mail: Mail) -> str:
    """The token of a mail's link."""
    (token,) = parse_qs(urlsplit(mail.values["link"]).query)["token"]
    return token


def page_of(mail: Mail) -> str:
    """Where a mail's link leads, without the issuer."""
    parts = urlsplit(mail.values["link"])
    return f"{parts.path}?{parts.query}"


def open_to_all(runtime: Runtime, **changes: object) -> Runtime:
    """The same runtime, where people may sign up."""
    settings = runtime.settings.model_copy(update={"sign_up": "open", **changes})
    return replace(runtime, settings=settings)


async def make_reachable(
    runtime: Runtime, *scopes: str, email: str = ADDRESS, username: str | None = None
) -> Someone:
    """A person with an address that is confirmed."""
    user = await make_user(runtime, *scopes, username=username)
    async with runtime.work(OPERATOR) as work:
        await set_verified_address(work, user.id, parse_address(email), chosen_by=None)
    return user
