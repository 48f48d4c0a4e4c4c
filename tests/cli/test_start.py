"""Commands start fast: what takes long to import is imported when it is used. And they end fast."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from tests.support.commands import commands, succeed

# Typer itself takes pydantic for the options of some commands.
HEAVY = {"alembic", "asyncpg", "cryptography", "fastapi", "jwt", "passlib", "rich"}
HEAVY |= {"sqlalchemy", "uvicorn", "zxcvbn"}
HELP = f"""
import sys
from typer.testing import CliRunner
from app.cli import cli
for command in sys.argv[1:]:
    result = CliRunner().invoke(cli, [*command.split()[1:], "--help"])
    assert result.exit_code == 0, command
print(*sorted({HEAVY!r} & sys.modules.keys()))
"""


@pytest.mark.system
def test_help_imports_nothing_that_takes_long() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP, "scopegate", *commands()], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


END = """
import gc, sys
from app.cli import main
sys.argv = ["scopegate", "--version"]
try:
    main()
finally:
    print(gc.get_freeze_count() > 0)
"""


@pytest.mark.system
def test_the_end_of_a_command_collects_no_garbage() -> None:
    done = subprocess.run([sys.executable, "-c", END], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:] == ["True"]


async def test_the_version_is_printed() -> None:
    assert await succeed("--version") == f"scopegate {version('scopegate')}\n"


async def test_no_line_of_help_is_cut_short() -> None:
    groups = {" ".join(command.split()[1:-1]) for command in commands()}
    assert groups >= {"", "user", "scope", "session", "key"}
    for group in sorted(groups):
        shown = (await succeed(*group.split(), "--help")).split("[ARGS]...")[1]
        assert "..." not in shown, shown
