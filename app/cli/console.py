"""How commands speak with people and programs, and how they get at the service."""

import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer

from app.errors import ScopegateError
from app.runtime import Runtime
from app.settings import Settings

T = TypeVar("T")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
Force = Annotated[bool, typer.Option("--force", help="Even if nobody is left who holds admin.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def run(work: Callable[[Runtime], Awaitable[T]]) -> T:
    """What `work` makes of a runtime, opened for it and closed again."""

    async def with_runtime() -> T:
        async with Runtime.open(Settings()) as runtime:
            return await work(runtime)

    return asyncio.run(with_runtime())


def read_password() -> str:
    """From the terminal, typed twice and not shown; else the first line of standard input.

    Never an argument: those can be read by every user of the machine.
    """
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise ScopegateError("The two are not the same: try again")
    return password


def show(rows: Any, as_json: bool, text: str) -> None:
    """Print for programs, or for people."""
    typer.echo(json.dumps(rows, indent=2) if as_json else text)


def table(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """The rows as columns of text, under their names."""
    cells = [columns] + [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(value) if isinstance(value, list) else str(value)
