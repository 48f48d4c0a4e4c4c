"""What commands share: their input and output, and the runtime that they use."""

import asyncio
import getpass
import json
import sys
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from app.cli.times import written
from app.errors import ScopegateError
from app.runtime import Runtime
from app.settings import Settings

T = TypeVar("T")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
Force = Annotated[bool, typer.Option("--force", help="Even if no admin is left.")]
Limit = Annotated[int, typer.Option(min=0, help="At most how many.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask whether it is meant.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

Row = Mapping[str, Any]


def run(work: Callable[[Runtime], Awaitable[T]]) -> T:
    """Open a runtime, return the result of `work` with it, and close it."""

    async def with_runtime() -> T:
        async with Runtime.open(Settings()) as runtime:
            return await work(runtime)

    return asyncio.run(with_runtime())


def problem_with_settings(error: ValidationError) -> str:
    """Return the first invalid setting and the reason, in one line without its value."""
    problem = error.errors()[0]
    setting = "".join(f"SCOPEGATE_{str(part).upper()}: " for part in problem["loc"])
    return setting + problem["msg"].removeprefix("Value error, ")


def read_password() -> str:
    """Read it from the terminal, twice and hidden; else the first line of standard input.

    Never an argument: those can be read by every user of the machine.
    """
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        if not line:
            raise ScopegateError(
                "No password came in: pipe it in, as one line, or run this at a terminal"
            )
        return line.rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise ScopegateError("The two are not the same: try again")
    return password


def confirm(what: str, *, yes: bool) -> None:
    """Ask at a terminal whether to do what can't be undone; do not ask a program."""
    if not yes and sys.stdin.isatty():
        typer.confirm(f"{what}. This can't be undone: go on?", abort=True, err=True)


def parse_id(text: str) -> uuid.UUID:
    """The id of a session or a secret."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise typer.BadParameter(
            "this is not an id, such as 01890000-0000-7000-8000-000000000000"
        ) from None


def show_progress(text: str) -> None:
    """Write the progress over the terminal's last line; nothing where there is no terminal."""
    if sys.stderr.isatty():
        typer.echo(f"\r{text}", nl=False, err=True)


def end_progress() -> None:
    """Go on in a new line after `show_progress`."""
    if sys.stderr.isatty():
        typer.echo(err=True)


def show(found: object, as_json: bool, text: str) -> None:
    """Print for programs, with times as the API writes them, or for people."""
    typer.echo(json.dumps(to_jsonable_python(found), indent=2) if as_json else text)


def show_list(rows: Sequence[Row], columns: list[str], *, limit: int, as_json: bool) -> None:
    """Print up to `limit` rows, and say if there are more: the caller has queried one more."""
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
    """Return the text with control characters and line breaks made visible."""
    return text if text.isprintable() else repr(text)[1:-1]


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return plain(" ".join(value))
        case datetime():
            return written(value)
    return plain(str(value))
