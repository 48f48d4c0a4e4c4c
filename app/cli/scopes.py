"""`scopegate scope …`: what can be granted."""

from typing import Annotated, Any

import typer

from app.access.authority import OPERATOR
from app.access.scopes import register_scope, registered_scopes, remove_scope
from app.api.schemas import ScopeAnswer
from app.cli.console import AsJson, run, show, table
from app.runtime import Runtime

scope = typer.Typer(help="List, register and remove scopes.", no_args_is_help=True)

ScopeName = Annotated[str, typer.Argument(metavar="NAME", help="The scope's name.")]
Description = Annotated[str, typer.Option("--description", help="What it allows.")]


@scope.command("list")
def scope_list(as_json: AsJson = False) -> None:
    """Every scope that can be granted."""

    async def work(runtime: Runtime) -> list[dict[str, Any]]:
        async with runtime.unit_of_work() as session:
            found = await registered_scopes(session)
        return [ScopeAnswer.model_validate(each).model_dump() for each in found]

    scopes = run(work)
    show(scopes, as_json, table(scopes, ["name", "description"]))


@scope.command("register")
def scope_register(name: ScopeName, description: Description) -> None:
    """Make a scope for another service that trusts these tokens. That alone gives it to nobody."""

    async def work(runtime: Runtime) -> None:
        async with runtime.unit_of_work() as session:
            await register_scope(session, name, description=description, by=OPERATOR)

    run(work)
    typer.echo(f"Registered {name}")


@scope.command("remove")
def scope_remove(name: ScopeName) -> None:
    """Remove a scope that nobody holds: it can't be granted any more. Not one that ships."""

    async def work(runtime: Runtime) -> None:
        async with runtime.unit_of_work() as session:
            await remove_scope(session, name, by=OPERATOR, now=runtime.now())

    run(work)
    typer.echo(f"Removed {name}")
