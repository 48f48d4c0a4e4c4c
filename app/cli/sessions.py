"""`scopegate session …`: who is signed in where."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.console import AsJson, Limit, Name, Yes, change, confirm, parse_id, run, show_list

if TYPE_CHECKING:
    from app.access.authority import Caller
    from app.db.work import Work
    from app.runtime import Runtime

session = typer.Typer(help="List and end sessions.", no_args_is_help=True)

SessionId = Annotated[
    uuid.UUID, typer.Argument(parser=parse_id, metavar="ID", help="Which session.")
]
COLUMNS = ["id", "client_id", "scopes", "created_at", "last_used_at", "address", "user_agent"]
REASON = "ended by an operator"


@session.command("list")
def session_list(name: Name, limit: Limit = 50, as_json: AsJson = False) -> None:
    """A user's live sessions, soonest to expire first."""

    async def act(runtime: Runtime) -> list[dict[str, Any]]:
        from app.identity.sessions import live_sessions
        from app.identity.users import get_user
        from app.views import SessionAnswer

        async with runtime.sessions() as db:
            user = await get_user(db, name)
            found = await live_sessions(db, user.id, after=None, limit=limit + 1, now=runtime.now())
        return [SessionAnswer.model_validate(each).model_dump() for each in found]

    show_list(run(act), COLUMNS, limit=limit, as_json=as_json)


@session.command("end")
def session_end(session_id: SessionId, yes: Yes = False) -> None:
    """End one session: no token of it counts any more."""
    confirm(f"Ending session {session_id} signs its user out there", yes=yes)

    async def act(work: Work[Caller]) -> None:
        from app.access.accounts import end_session

        await end_session(work, session_id, reason=REASON)

    change(act)
    typer.echo(f"Ended session {session_id}")


@session.command("end-all")
def session_end_all(name: Name, yes: Yes = False) -> None:
    """End all sessions of a user: they are signed out everywhere."""
    confirm(f"Ending all sessions signs {name} out everywhere", yes=yes)

    async def act(work: Work[Caller]) -> str:
        from app.access.accounts import end_sessions
        from app.identity.users import get_user

        user = await get_user(work.db, name)
        await end_sessions(work, user.id, reason=REASON)
        return user.username

    typer.echo(f"Ended all sessions of {change(act)}")
