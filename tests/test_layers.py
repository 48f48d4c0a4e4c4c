"""The import contracts in pyproject.toml: what must not be imported fails `make check`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import PROJECT


def lint_imports(project: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of a copy of the project."""
    return subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(PROJECT / "app", tmp_path / "app")
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("api/users.py", "app.identity.account_writes"),
        ("cli/users.py", "app.identity.account_writes"),
        ("ops/imports.py", "app.identity.account_writes"),
        ("tokens/issuing.py", "app.identity.account_writes"),
        ("api/me.py", "app.identity.session_writes"),
        ("cli/sessions.py", "app.identity.session_writes"),
        ("access/grants.py", "app.api.security"),
        ("access/grants.py", "fastapi"),
    ],
)
def test_what_forgets_the_check_of_authority_or_climbs_a_floor_fails_the_check(
    project: Path, importer: str, imported: str
) -> None:
    """First without the import, which must pass: else the failure would say nothing."""
    file = project / "app" / importer
    whole = lint_imports(project)
    assert whole.returncode == 0, whole.stdout
    file.write_text(f"{file.read_text()}\nimport {imported}  # noqa\n")
    broken = lint_imports(project)
    assert broken.returncode == 1
    assert f"app.{importer.removesuffix('.py').replace('/', '.')}" in broken.stdout
