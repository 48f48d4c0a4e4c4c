"""`scopegate doctor`: what is wrong, and what to do."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from app.cli.console import AsJson, Output, problem_with_settings, say_where_no_service_runs
from app.errors import ConfigurationError

if TYPE_CHECKING:
    from app.ops.findings import Finding


def doctor(as_json: AsJson = False) -> None:
    """Find what is wrong, and say what to do.

    Looks at the settings, the database, its schema, scopes, change feed, triggers, keys and clock,
    and at mail.
    Exit code 1: something is wrong; warnings are not.
    """
    from pydantic import ValidationError

    from app.ops.doctor import examine
    from app.ops.findings import Finding
    from app.settings import Settings

    try:
        settings = Settings()
        say_where_no_service_runs(settings)
        findings = asyncio.run(examine(settings))
    except ValidationError as error:
        remedy = "set it otherwise: docs/reference/settings.md in Scopegate's source describes it"
        findings = [Finding("settings", "wrong", problem_with_settings(error), remedy)]
    except ConfigurationError as error:
        findings = [Finding("settings", "wrong", str(error), "mend that, or remove it")]
    found = [asdict(each) for each in findings]
    Output(found, "\n".join(map(_lines, findings))).print(as_json=as_json)
    if any(each.state == "wrong" for each in findings):
        raise typer.Exit(1)


def _lines(finding: Finding) -> str:
    line = f"{finding.state:<8} {finding.check:<12} {finding.found}"
    return f"{line}\n{'':21} -> {finding.remedy}" if finding.remedy else line
