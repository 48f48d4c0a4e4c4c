"""`scopegate user import`: people who come from another system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.console import AsJson, Output, end_progress, operator, show_progress
from app.errors import ScopegateError

if TYPE_CHECKING:
    from app.ops.imports import Report
    from app.ops.people_files import Refusal
    from app.runtime import Runtime

REFUSED_SOME = 3
"""The exit code when some rows were refused and the others are in."""

File = Annotated[
    typer.FileBinaryRead,
    typer.Argument(metavar="FILE", help="The file; - is standard input."),
]


async def user_import(runtime: Runtime, file: File, as_json: AsJson = False) -> None:
    """Make people of a CSV file or another system's export.

    The file may be of any length. A CSV's first line names the columns: username, password_hash or
    password, and scopes with spaces between them. Keycloak's JSON, Auth0's NDJSON and GoTrue's CSV
    or JSON are read as they are. Users who are there already stay as they are, so the same file can
    be imported again when it was interrupted. A row stands in one line; at a line that is no row
    the import stops, with exit code 1. Exit code 3: some rows were refused, as reported.
    """
    from app.ops.imports import import_people

    def progress(report: Report) -> None:
        show_progress(_counts(report))

    report = await import_people(runtime, file, by=operator(), progress=progress)
    end_progress()
    found = {
        "rows": report.rows,
        "made": report.made,
        "already_there": report.already_there,
        "refused": [_as_dict(each) for each in report.refused],
        "stopped": report.stopped and report.stopped._asdict(),
    }
    refused = [f"{each.place}: {each.reason}" for each in report.refused]
    Output(found, "\n".join([*refused, _counts(report)])).print(as_json=as_json)
    if report.stopped:
        raise ScopegateError(
            f"Stopped at line {report.stopped.line}, and read nothing after it, since that may not "
            f"be rows. {report.stopped.reason} Mend the file and import it again."
        )
    if report.refused:
        raise typer.Exit(REFUSED_SOME)


def _as_dict(refusal: Refusal) -> dict[str, object]:
    line, user = refusal.place
    return {"line": line} | ({"user": user} if user else {}) | {"reason": refusal.reason}


def _counts(report: Report) -> str:
    rows = "1 row" if report.rows == 1 else f"{report.rows} rows"
    return (
        f"{rows}: {report.made} made, {report.already_there} already there, "
        f"{len(report.refused)} refused"
    )
