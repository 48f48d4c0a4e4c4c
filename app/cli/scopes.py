"""`scopegate scope …`: what can be granted."""

from typing import Annotated, Any

import typer

from app.access.authority import OPERATOR
from app.access.registry import register_scope, remove_scope
from app.access.scopes import registered_scopes
from app.cli.console import AsJson, run, show, table
from app.runtime import Runtime
from app.views import ScopeAnswer

scope = typer.Typer(help="List, register and remove scopes.", no_args_is_help=True)

ScopeName = Annotated[str, typer.Argument(metavar="NAME", help="The scope's name.")]
Description = Annotated[str, typer.Option("--description", help="What it allows.")]


@scope.command("list")
def scope_list(as_json: AsJson = False) -> None:
    """Every scope that can be granted."""

    async def act(runtime: Runtime) -> list[dict[str, Any]]:
        async with runtime.sessions() as db:
            found = await registered_scopes(db)
        return [ScopeAnswer.of(each).model_dump() for each in found]

    scopes = run(act)
    show(scopes, as_json, table(scopes, ["name", "description"]))


@scope.command("register")
def scope_register(name: ScopeName, description: Description) -> None:
    """Make a scope for another service that trusts these tokens. That alone gives it to no user."""

    async def act(runtime: Runtime) -> None:
        async with runtime.work(OPERATOR) as work:
            await register_scope(work, name, description=description)

    run(act)
    typer.echo(f"Registered {name}")


@scope.command("remove")
def scope_remove(name: ScopeName) -> None:
    """Remove a scope that no user holds: it can't be granted any more. Not one that ships."""

    async def act(runtime: Runtime) -> None:
        async with runtime.work(OPERATOR) as work:
            await remove_scope(work, name)

    run(act)
    typer.echo(f"Removed {name}")
