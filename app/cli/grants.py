"""`scopegate grant` and `scopegate revoke`."""

from datetime import datetime, timedelta
from typing import Annotated

import typer

from app.access import grants
from app.access.authority import OPERATOR
from app.access.scopes import require_registered
from app.cli.console import Force, Name, run
from app.cli.times import parse_duration, parse_moment, written
from app.identity.users import get_user
from app.runtime import Runtime

Scopes = Annotated[list[str], typer.Argument(metavar="SCOPE…", help="One scope, or several.")]
Until = Annotated[
    datetime | None,
    typer.Option(
        parser=parse_moment,
        metavar="TIME",
        help="They end then: 2027-01-31T18:00+01:00; without an offset, local time.",
    ),
]
For = Annotated[
    timedelta | None,
    typer.Option(
        "--for", parser=parse_duration, metavar="DURATION", help="They end after: 90m, 8h, 1d12h."
    ),
]
Reason = Annotated[str | None, typer.Option(help="Why: shown with the grant and in the audit log.")]


def grant(
    name: Name,
    scopes: Scopes,
    until: Until = None,
    lasting: For = None,
    reason: Reason = None,
    force: Force = False,
) -> None:
    """Grant scopes to a user. Repeating it changes nothing, except for another end or reason."""
    if until is not None and lasting is not None:
        raise typer.BadParameter("--until and --for say the same: use one")

    async def act(runtime: Runtime) -> tuple[str, datetime | None]:
        async with runtime.work(OPERATOR) as work:
            end = until if lasting is None else work.now + lasting
            holder = await get_user(work.db, name)
            await require_registered(work.db, set(scopes))
            for each in sorted(scopes):
                await grants.grant(
                    work, holder.id, each, expires_at=end, reason=reason, force=force
                )
        return holder.username, end

    holder, end = run(act)
    until_when = f" until {written(end)}" if end else ""
    typer.echo(f"Granted to {holder}{until_when}: {' '.join(scopes)}")


def revoke(name: Name, scopes: Scopes, force: Force = False) -> None:
    """Take scopes back from a user. Tokens that were already issued lose them too."""

    async def act(runtime: Runtime) -> tuple[str, list[str]]:
        async with runtime.work(OPERATOR) as work:
            holder = await get_user(work.db, name)
            # A misspelled scope must fail, and not look like a success.
            await require_registered(work.db, set(scopes))
            removed = [
                each
                for each in sorted(scopes)
                if await grants.revoke(work, holder.id, each, force=force)
            ]
            return holder.username, removed

    holder, removed = run(act)
    typer.echo(
        f"Revoked from {holder}: {' '.join(removed) or 'nothing, the user held none of them'}"
    )
