"""`scopegate scope …`: what can be granted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.console import AsJson, change, run, show, table

if TYPE_CHECKING:
    from app.access.authority import Caller
    from app.db.work import Work
    from app.runtime import Runtime

scope = typer.Typer(help="List, register and remove scopes.", no_args_is_help=True)

ScopeName = Annotated[str, typer.Argument(metavar="NAME", help="The scope's name.")]
Description = Annotated[str, typer.Option("--description", help="What it allows.")]


@scope.command("list")
def scope_list(as_json: AsJson = False) -> None:
    """Every scope that can be granted."""

    async def act(runtime: Runtime) -> list[dict[str, Any]]:
        from app.access.scopes import registered_scopes
        from app.views import ScopeAnswer

        async with runtime.sessions() as db:
            found = await registered_scopes(db)
        return [ScopeAnswer.of(each).model_dump() for each in found]

    scopes = run(act)
    show(scopes, as_json, table(scopes, ["name", "description"]))


@scope.command("register")
def scope_register(name: ScopeName, description: Description) -> None:
    """Make a scope for another service that trusts these tokens. That alone gives it to no user."""

    async def act(work: Work[Caller]) -> None:
        from app.access.registry import register_scope

        await register_scope(work, name, description=description)

    change(act)
    typer.echo(f"Registered {name}")


@scope.command("remove")
def scope_remove(name: ScopeName) -> None:
    """Remove a scope that no user holds: it can't be granted any more. Not one that ships."""

    async def act(work: Work[Caller]) -> None:
        from app.access.registry import remove_scope

        await remove_scope(work, name)

    change(act)
    typer.echo(f"Removed {name}")
