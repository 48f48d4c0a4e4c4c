"""`scopegate audit`: who did what to whom."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, NamedTuple, get_args

import typer

from app.audit.actions import Action
from app.cli.commands import Before
from app.cli.console import Limit, plain
from app.cli.times import parse_since, written

if TYPE_CHECKING:
    from app.audit.models import AuditEntry
    from app.runtime import Runtime

KINDS: tuple[Action, ...] = get_args(Action)


def parse_action(text: str) -> Action:
    """A kind of entry, as the log has it."""
    if text not in KINDS:
        raise typer.BadParameter(f"there is no such kind of entry: it is one of {', '.join(KINDS)}")
    return text


Follow = Annotated[bool, typer.Option("--follow", help="Go on with what is done from now on.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]


class Which(NamedTuple):
    """Which entries are shown."""

    user: Annotated[
        str | None, typer.Option(help="Only what this user did, or had done to them.")
    ] = None
    action: Annotated[
        Action | None,
        typer.Option(
            parser=parse_action,
            metavar="ACTION",
            help=f"Only this kind of entry, one of {', '.join(KINDS)}.",
        ),
    ] = None
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_since,
            metavar="TIME|DURATION",
            help="Only what is no older: 2h, 2027-01-31.",
        ),
    ] = None


async def audit(
    runtime: Runtime,
    which: Annotated[Which, Before(Which)],
    limit: Limit = 50,
    follow: Follow = False,
    as_json: AsJson = False,
) -> None:
    """Show the audit log: who did what to whom.

    A line is an entry, the newest last: when, what, who to whom, and how.
    """
    from app.audit.log import follow_entries
    from app.identity.users import get_user

    async with runtime.reading() as db:
        user_id = None if which.user is None else (await get_user(db, which.user)).id
    async for found in follow_entries(
        runtime.reading, user_id=user_id, action=which.action, since=which.since, limit=limit
    ):
        await _print(runtime, found, as_json=as_json)
        if not follow:
            break


async def _print(runtime: Runtime, entries: list[AuditEntry], *, as_json: bool) -> None:
    from app.identity.users import usernames_of
    from app.views import AuditAnswer

    async with runtime.reading() as db:
        named = {user_id for each in entries for user_id in (each.actor, each.subject) if user_id}
        names = await usernames_of(db, named)
    for each in entries:
        if not as_json:
            typer.echo(_line(each, names))
            continue
        shown = AuditAnswer.model_validate(each).model_dump(mode="json")
        # As a page of the API has them: the entry itself has ids alone.
        users = {
            str(user_id): names[user_id]
            for user_id in (each.actor, each.subject)
            if user_id in names
        }
        typer.echo(json.dumps({**shown, "names": users}))


def _line(entry: AuditEntry, names: Mapping[uuid.UUID, str]) -> str:
    """One entry in one line, whatever is in it."""
    actor, subject = (
        "-" if user_id is None else names.get(user_id, str(user_id))
        for user_id in (entry.actor, entry.subject)
    )
    if by := entry.detail.get("operator"):
        actor = f"operator {by}"
    detail = " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in entry.detail.items()
        if value is not None and name != "operator"
    )
    where = f" from {entry.address}" if entry.address else ""
    return plain(
        f"{written(entry.at)}  {entry.action:<22}  {actor} > {subject}  {detail}{where}".rstrip()
    )
