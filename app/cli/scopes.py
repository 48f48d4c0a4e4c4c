"""`scopegate scope …`: what can be granted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.commands import command
from app.cli.console import Output, table

if TYPE_CHECKING:
    from app.access.authority import Caller
    from app.db.work import Work
    from app.runtime import Runtime

scope = typer.Typer(help="List, register and remove scopes.", no_args_is_help=True)

ScopeName = Annotated[str, typer.Argument(metavar="NAME", help="The scope's name.")]
Description = Annotated[str, typer.Option("--description", help="What it allows.")]
Resource = Annotated[
    str | None, typer.Option("--resource", help="The URI of the service that it belongs to.")
]


@command(scope, "list")
async def scope_list(runtime: Runtime) -> Output:
    """Every scope that can be granted."""
    from app.access.scopes import registered_scopes
    from app.views import ScopeAnswer

    async with runtime.reading() as db:
        found = await registered_scopes(db)
    rows = [ScopeAnswer.of(each).model_dump() for each in found]
    return Output(rows, table(rows, ["name", "description", "resource"]))


@command(scope, "register")
async def scope_register(
    work: Work[Caller], name: ScopeName, description: Description, resource: Resource = None
) -> str:
    """Make a scope for another service that trusts these tokens. That alone gives it to no user."""
    from app.access.registry import register_scope

    await register_scope(work, name, description=description, resource=resource)
    return f"Registered {name}"


@command(scope, "remove")
async def scope_remove(work: Work[Caller], name: ScopeName) -> str:
    """Remove a scope that no user holds: it can't be granted any more. Not one that ships."""
    from app.access.registry import remove_scope

    await remove_scope(work, name)
    return f"Removed {name}"
