"""`scopegate session …`: who is signed in where."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.commands import command
from app.cli.console import Limit, Name, Output, listed, parse_id

if TYPE_CHECKING:
    from app.access.authority import Caller
    from app.db.work import Work
    from app.runtime import Runtime

session = typer.Typer(help="List and end sessions.", no_args_is_help=True)

SessionId = Annotated[
    uuid.UUID, typer.Argument(parser=parse_id, metavar="ID", help="Which session.")
]
COLUMNS = [
    *("id", "client_id", "scopes", "created_at", "last_used_at", "address", "user_agent"),
    "token_name",
]
REASON = "ended by an operator"


@command(session, "list")
async def session_list(runtime: Runtime, name: Name, limit: Limit = 50) -> Output:
    """A user's live sessions. The one that expires first comes first."""
    from app.identity.sessions import live_sessions
    from app.identity.users import get_user
    from app.views import SessionAnswer

    async with runtime.reading() as db:
        user = await get_user(db, name)
        found = await live_sessions(db, user.id, after=None, limit=limit + 1, now=runtime.now())
    rows = [SessionAnswer.model_validate(each).model_dump() for each in found]
    return listed(rows, COLUMNS, limit=limit)


@command(session, "end", confirm="Ending session {session_id} signs its user out there")
async def session_end(work: Work[Caller], session_id: SessionId) -> str:
    """End one session: no token of it counts any more."""
    from app.access.accounts import end_session

    await end_session(work, session_id, reason=REASON)
    return f"Ended session {session_id}"


@command(session, "end-all", confirm="Ending all sessions signs {name} out everywhere")
async def session_end_all(work: Work[Caller], name: Name) -> str:
    """End all sessions of a user: they are signed out everywhere."""
    from app.access.accounts import end_sessions
    from app.identity.users import get_user

    user = await get_user(work.db, name)
    await end_sessions(work, user.id, reason=REASON)
    return f"Ended all sessions of {user.username}"
