"""`scopegate grant` and `scopegate revoke`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.commands import Before
from app.cli.console import Force, Name
from app.cli.times import parse_duration, parse_moment, written

if TYPE_CHECKING:
    from app.access.authority import Caller
    from app.db.work import Work

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


def _end(until: Until = None, lasting: For = None) -> datetime | timedelta | None:
    """When the grants end, or after how long."""
    if until is not None and lasting is not None:
        raise typer.BadParameter("--until and --for say the same: use one")
    return until or lasting


async def grant(
    work: Work[Caller],
    name: Name,
    scopes: Scopes,
    end: Annotated[datetime | timedelta | None, Before(_end)],
    reason: Reason = None,
    force: Force = False,
) -> str:
    """Grant scopes to a user. Repeating it changes nothing, except for another end or reason."""
    from app.access import grants
    from app.access.scopes import require_registered
    from app.identity.users import get_user

    until = work.now + end if isinstance(end, timedelta) else end
    holder = await get_user(work.db, name)
    await require_registered(work.db, set(scopes))
    for each in sorted(scopes):
        await grants.grant(work, holder.id, each, expires_at=until, reason=reason, force=force)
    until_when = f" until {written(until)}" if until else ""
    return f"Granted to {holder.username}{until_when}: {' '.join(scopes)}"


async def revoke(work: Work[Caller], name: Name, scopes: Scopes, force: Force = False) -> str:
    """Take scopes back from a user. Tokens that were already issued lose them too."""
    from app.access import grants
    from app.access.scopes import require_registered
    from app.identity.users import get_user

    holder = await get_user(work.db, name)
    # A misspelled scope must fail, and not look like a success.
    await require_registered(work.db, set(scopes))
    removed = [
        each for each in sorted(scopes) if await grants.revoke(work, holder.id, each, force=force)
    ]
    outcome = " ".join(removed) or "nothing, the user held none of them"
    return f"Revoked from {holder.username}: {outcome}"
