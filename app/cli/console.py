"""What commands share: their input and output, and the operator who runs them."""

from __future__ import annotations

import getpass
import io
import json
import os
import platform
import sys
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

import typer

from app.cli.times import written
from app.errors import ScopegateError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from app.access.authority import Operator
    from app.settings import Settings

LONGEST_NAME = 128
"""Characters of an operator's name in the audit log."""

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
Force = Annotated[bool, typer.Option("--force", help="Even if no admin is left.")]
Limit = Annotated[int, typer.Option(min=0, max=1_000_000, help="At most how many.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask whether it is meant.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

Row = Mapping[str, Any]


class Output(NamedTuple):
    """What a command found, for programs, and the same as text, for people."""

    found: Any
    text: str
    note: str | None = None
    """For both, on stderr."""

    def print(self, *, as_json: bool) -> None:
        """Print it for programs or for people."""
        typer.echo(to_json(self.found) if as_json else self.text)
        if self.note is not None:
            typer.echo(self.note, err=True)


def operator() -> Operator:
    """The operator, and by what name the audit log has them: who used sudo, or the user."""
    from app.access.authority import Operator
    from app.db.work import Origin

    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # The id has no name, as in a container.
        name = str(os.getuid())
    shown = plain(f"{name}@{platform.node()}"[:LONGEST_NAME])
    return Operator(origin=Origin(operator=shown.encode(errors="replace").decode()))


def say_where_no_service_runs(settings: Settings) -> None:
    """Write on stderr which embedded database the command uses, when no service uses it.

    The service may have another SCOPEGATE_HOME.
    """
    from app.db.embedded import is_running

    home = settings.home.resolve()
    if settings.database_url is None and (home / "pg").exists() and not is_running(home):
        typer.echo(f"scopegate: no service runs on the database in {home}, used here", err=True)


def problem_with_settings(error: ValidationError) -> str:
    """Return the first invalid setting and the reason, in one line without its value."""
    problem = error.errors()[0]
    setting = "".join(f"SCOPEGATE_{str(part).upper()}: " for part in problem["loc"])
    return setting + problem["msg"].removeprefix("Value error, ")


def read_password() -> str:
    """Read it from the terminal, twice and hidden; else standard input, which is one line.

    Never an argument: those can be read by every user of the machine.
    """
    try:
        if not sys.stdin.isatty():
            return _read_line()
        password = getpass.getpass("Password: ")
        if getpass.getpass("Once more: ") != password:
            raise ScopegateError("The two are not the same: try again")
    except UnicodeDecodeError:
        raise ScopegateError("The password is not UTF-8") from None
    return password


def _read_line() -> str:
    """The only line of standard input. Raises ScopegateError if there is none, or another one."""
    stdin = cast("io.BufferedReader", sys.stdin.buffer)
    read, found = b"", b" "
    # Up to a line's end: over SSH, say, the input may stay open behind it.
    while found and b"\n" not in read:
        found = stdin.read1(65536)
        read += found
    if not read:
        raise ScopegateError(
            "No password came in: pipe it in, as one line, or run this at a terminal"
        )
    line, _, rest = read.decode().partition("\n")
    if rest.strip("\r\n"):
        raise ScopegateError("More than one line came in: pipe in the password alone, as one line")
    return line.rstrip("\r")


def refuse_what_is_not_utf8(arguments: Mapping[str, Any]) -> None:
    """Raise BadParameter for text that is not UTF-8. A file's name may be anything."""
    for name, each in arguments.items():
        for text in each if isinstance(each, (list, tuple)) else [each]:
            try:
                str.encode(text if isinstance(text, str) else "")
            except UnicodeEncodeError:
                raise typer.BadParameter("this is not UTF-8", param_hint=name) from None


def confirm(what: str, *, yes: bool, typed: str | None = None) -> None:
    """Ask at a terminal whether to do what can't be undone; do not ask a program.

    The answer is yes or, where `typed` is given, that text.
    """
    if yes or not sys.stdin.isatty():
        return
    if typed is None:
        typer.confirm(f"{what}. This can't be undone: go on?", abort=True, err=True)
    elif typer.prompt(f"{what}. This can't be undone: type {plain(typed)}", err=True) != typed:
        raise typer.Abort


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


def to_json(found: object) -> str:
    """Return JSON, with times as the API writes them."""
    from pydantic_core import to_jsonable_python

    return json.dumps(to_jsonable_python(found), indent=2)


def listed(rows: Sequence[Row], columns: list[str], *, limit: int) -> Output:
    """Return up to `limit` rows, and say if there are more: the caller has queried one more."""
    more = f"These are the first {limit}: see more with --limit" if len(rows) > limit else None
    return Output(rows[:limit], table(rows[:limit], columns), more)


def table(rows: Sequence[Row], columns: list[str], *, title: str | None = None) -> str:
    """The rows as columns of text, under their names and a title, if there is one."""
    if title is not None:
        counted = table(rows, columns) if rows else "  none"
        return f"{title}\n{counted}"
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
