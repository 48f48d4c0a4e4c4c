"""How commands speak with people and programs, and how they get at the service."""

import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from app.errors import ScopegateError
from app.runtime import Runtime
from app.settings import Settings

T = TypeVar("T")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
Force = Annotated[bool, typer.Option("--force", help="Even if nobody is left who holds admin.")]
Limit = Annotated[int, typer.Option(min=0, help="At most how many.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask whether it is meant.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

Row = Mapping[str, Any]


def run(work: Callable[[Runtime], Awaitable[T]]) -> T:
    """What `work` makes of a runtime, opened for it and closed again."""

    async def with_runtime() -> T:
        async with Runtime.open(Settings()) as runtime:
            return await work(runtime)

    return asyncio.run(with_runtime())


def problem_with_settings(error: ValidationError) -> str:
    """The first of the settings that can't be, and why, in one line without its value."""
    problem = error.errors()[0]
    setting = "".join(f"SCOPEGATE_{str(part).upper()}: " for part in problem["loc"])
    return setting + problem["msg"].removeprefix("Value error, ")


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


def confirm(what: str, *, yes: bool) -> None:
    """Ask whoever sits at the terminal whether they mean what can't be undone; nobody else."""
    if not yes and sys.stdin.isatty():
        typer.confirm(f"{what}. This can't be undone: go on?", abort=True, err=True)


def row(answer: BaseModel) -> dict[str, Any]:
    """What the API would answer, as JSON has it."""
    return answer.model_dump(mode="json")


def show(found: Any, as_json: bool, text: str) -> None:
    """Print for programs, or for people."""
    typer.echo(json.dumps(found, indent=2) if as_json else text)


def show_list(rows: Sequence[Row], columns: list[str], *, limit: int, as_json: bool) -> None:
    """Print up to `limit` of the rows, of which one more was looked for; say when it is there."""
    show(rows[:limit], as_json, table(rows[:limit], columns))
    if len(rows) > limit:
        typer.echo(f"These are the first {limit}: see more with --limit", err=True)


def table(rows: Sequence[Row], columns: list[str]) -> str:
    """The rows as columns of text, under their names."""
    cells = [columns] + [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def plain(text: str) -> str:
    """The text with what a terminal would obey, or break the line at, made visible."""
    return text if text.isprintable() else repr(text)[1:-1]


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return plain(" ".join(value))
    return plain(str(value))
