"""Commands, run in this process as they are typed."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup
from typer.testing import CliRunner, Result

from app.cli import cli

Environment = pytest.MonkeyPatch
"""A database of the test's own, as the settings in the environment name it."""


def commands() -> Iterator[str]:
    """Every command there is, in full: `scopegate user create` and so on."""
    group = typer.main.get_command(cli)
    assert isinstance(group, TyperGroup)
    return _commands(group, "scopegate")


def _commands(group: TyperGroup, name: str) -> Iterator[str]:
    for word, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}"


async def scopegate(*arguments: str, stdin: str = "") -> Result:
    """Run a command in a thread of its own: it starts an event loop."""
    return await asyncio.to_thread(CliRunner().invoke, cli, arguments, input=stdin)


async def succeed(*arguments: str, stdin: str = "") -> str:
    """What a command prints; it must succeed."""
    result = await scopegate(*arguments, stdin=stdin)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


async def printed(*arguments: str) -> Any:
    """What a command prints with `--json`; it must succeed."""
    return json.loads(await succeed(*arguments, "--json"))


async def refusal(*arguments: str, stdin: str = "") -> str:
    """Why a command can't be done."""
    result = await scopegate(*arguments, stdin=stdin)
    assert result.exit_code == 1
    return str(result.exception)
