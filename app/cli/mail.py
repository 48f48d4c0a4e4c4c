"""`scopegate mail …`: what waits in the outbox, and whether mails can be sent."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, cast

import typer

from app.cli.commands import command
from app.cli.console import Limit, Output, listed, plain
from app.errors import ScopegateError

if TYPE_CHECKING:
    from app.access.authority import Caller
    from app.db.work import Work
    from app.mail.lists import State
    from app.runtime import Runtime

mail = typer.Typer(help="List mails, send them at once, try the server.", no_args_is_help=True)

COLUMNS = ["id", "purpose", "state", "created_at", "due_at", "ended_at", "attempts", "error"]


def parse_state(text: str) -> State:
    """The state of a mail."""
    if text not in {"waiting", "sent", "failed"}:
        raise typer.BadParameter("a mail is waiting, sent or failed")
    return cast("State", text)


@command(mail, "list")
async def mail_list(
    runtime: Runtime,
    state: Annotated[
        str | None,
        typer.Option("--state", metavar="STATE", help="Only those: waiting, sent or failed."),
    ] = None,
    limit: Limit = 50,
) -> Output:
    """Mails, the newest first, without their content and addresses.

    Those that ended are kept for seven days.
    """
    from app.mail.lists import list_mails

    wanted = None if state is None else parse_state(state)
    async with runtime.reading() as db:
        found = await list_mails(db, state=wanted, limit=limit + 1)
    return listed([asdict(each) for each in found], COLUMNS, limit=limit)


@command(mail, "retry")
async def mail_retry(work: Work[Caller]) -> str:
    """Try at once what waits for its next attempt.

    A mail that was given up has no content any more: have the person ask for it again.
    """
    from app.mail.lists import retry_now

    return f"{await retry_now(work)} mails are due now"


@command(mail, "test")
async def mail_test(
    runtime: Runtime,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Where to send it.")],
) -> str:
    """Send a test mail now, and print what the server says."""
    from uuid_utils.compat import uuid7

    from app.mail.messages import MessageWriter
    from app.mail.outbox import Mail
    from app.mail.smtp import NotDelivered, Smtp

    settings = runtime.settings
    server = settings.smtp_server
    if server is None:
        raise ScopegateError("SCOPEGATE_SMTP_URL is not set: set it to the server that takes mails")
    writer = MessageWriter.of(settings)
    envelope = writer.write(uuid7(), Mail("test", address, {}), at=runtime.now())
    said: list[str] = []

    async def keep(answer: str) -> None:
        said.append(answer)

    try:
        await Smtp.of(settings, server).deliver(envelope, keep)
    except NotDelivered as problem:
        told = f" ({plain(problem.told)})" if problem.told else ""
        raise ScopegateError(f"{server}: {problem}{told}") from None
    return f"{server} took it: {plain(said[0])}"
