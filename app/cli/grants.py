"""`scopegate grant`, `scopegate revoke` and `scopegate scope …`."""

from typing import Annotated, Any

import typer

from app.access import grants
from app.access.authority import OPERATOR
from app.access.scopes import registered_scopes
from app.cli.console import AsJson, Force, Name, run, show, table
from app.identity.users import get_user
from app.runtime import Runtime

scope = typer.Typer(help="List the scopes that there are.", no_args_is_help=True)

Scopes = Annotated[list[str], typer.Argument(metavar="SCOPE…", help="One scope, or several.")]


def grant(name: Name, scopes: Scopes) -> None:
    """Grant scopes to a user. Again is the same."""

    async def work(runtime: Runtime) -> str:
        async with runtime.unit_of_work() as session:
            holder = await get_user(session, name)
            for each in scopes:
                await grants.grant(
                    session, user_id=holder.id, scope=each, by=OPERATOR, now=runtime.now()
                )
            return holder.username

    typer.echo(f"Granted to {run(work)}: {' '.join(scopes)}")


def revoke(name: Name, scopes: Scopes, force: Force = False) -> None:
    """Take scopes back from a user. Tokens already out lose them too."""

    async def work(runtime: Runtime) -> tuple[str, list[str]]:
        async with runtime.unit_of_work() as session:
            holder = await get_user(session, name)
            removed = [
                each
                for each in scopes
                if await grants.revoke(
                    session,
                    user_id=holder.id,
                    scope=each,
                    by=OPERATOR,
                    now=runtime.now(),
                    force=force,
                )
            ]
            return holder.username, removed

    holder, removed = run(work)
    typer.echo(f"Revoked from {holder}: {' '.join(removed) or 'nothing, none was held'}")


@scope.command("list")
def scope_list(as_json: AsJson = False) -> None:
    """Every scope that can be granted."""

    async def work(runtime: Runtime) -> list[dict[str, Any]]:
        async with runtime.unit_of_work() as session:
            return [
                {"name": each.name, "description": each.description}
                for each in await registered_scopes(session)
            ]

    scopes = run(work)
    show(scopes, as_json, table(scopes, ["name", "description"]))
