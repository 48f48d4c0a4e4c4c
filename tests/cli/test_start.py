"""Commands start fast: what takes long to import is imported when it is used."""

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


@pytest.mark.system
def test_help_takes_half_a_second_of_the_processor() -> None:
    """Its time on the clock depends on what else the machine does. The fastest of three counts."""
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=-3);"
    code += "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
    code += "print(used.ru_utime + used.ru_stime)"
    command = [sys.executable, "-c", code, sys.executable, "-m", "app", "--help"]
    took = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(took) < 0.5


async def test_the_version_is_printed() -> None:
    assert await succeed("--version") == f"scopegate {version('scopegate')}\n"


async def test_no_line_of_help_is_cut_short() -> None:
    groups = {" ".join(command.split()[1:-1]) for command in commands()}
    assert groups >= {"", "user", "scope", "session", "key"}
    for group in sorted(groups):
        shown = (await succeed(*group.split(), "--help")).split("[ARGS]...")[1]
        assert "..." not in shown, shown
