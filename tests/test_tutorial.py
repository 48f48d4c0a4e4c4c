"""The tutorial works as written: each of its steps is done in a copy of the checkout."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SECRET
from tests.support.documents import SERVED_AT, Document, walking
from tests.support.processes import ROOT, environment, serving

TUTORIAL = "docs/tutorials/first-hour.md"
STEP = re.compile(
    r"\b(?P<verb>Create|In)\s`(?P<path>[^`]+)`[^`\n]*(?:`[^`\n]+`[^`\n]*)?:\n\n"
    r"```(?P<language>python|diff)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
NUMBER = re.compile(r'"\d{4}"')


def follow(tutorial: str, checkout: Path) -> None:
    """Create the files that the tutorial creates, and change those that it changes."""
    steps = list(STEP.finditer(tutorial))
    edits = sum(tutorial.count(f"```{language}\n") for language in ("python", "diff"))
    assert len(steps) == edits - 1, "each block but the migration names its file"
    for step in steps:
        path = checkout / step["path"]
        if step["language"] == "python":
            assert not path.exists(), path
            path.parent.mkdir(exist_ok=True)
            path.write_text(step["text"])
        else:
            lines = step["text"].splitlines(keepends=True)
            before = "".join(line[1:] for line in lines if not line.startswith("+"))
            after = "".join(line[1:] for line in lines if not line.startswith("-"))
            assert path.read_text().count(before) == 1, f"{path} has no such place:\n{before}"
            path.write_text(path.read_text().replace(before, after))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout, without what git ignores."""
    if (ROOT / "app" / "reports").exists():
        pytest.skip("the tutorial was followed in this checkout already")
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    copy = tmp_path / "scopegate"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", *ignored))
    return copy


@pytest.mark.long
def test_the_tutorial_works_as_written(own_database_url: str, checkout: Path) -> None:
    settings: dict[str, Any] = {"database_url": own_database_url, "secret_keys": SECRET}
    env = environment(**settings, test_database_url=own_database_url)
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    # Before the installed package, which is the checkout that is copied.
    env["PYTHONPATH"] = str(checkout)
    tutorial = Document(TUTORIAL).text
    replacing: dict[str, str] = {}
    with walking(TUTORIAL, cwd=checkout, env=env, replacing=replacing) as walk:
        with serving(cwd=checkout, **settings) as service:
            replacing[SERVED_AT] = service.url
            assert '"scope":"read:items"' in walk.paste("Run it and sign in")

        follow(tutorial, checkout)
        walk.paste("Migrate")
        (migration,) = (checkout / "migrations" / "versions").glob("*_reports.py")
        (shown,) = re.findall(r'^```python\n("""reports""".*?)^```$', tutorial, re.M | re.S)
        assert NUMBER.sub("", migration.read_text()) == NUMBER.sub("", shown)
        assert "Granted to alice" in walk.paste("Migrate")

        with serving(cwd=checkout, **settings) as service:
            replacing[SERVED_AT] = service.url
            written = walk.paste("Try it")
            assert written.count("All is well.") == 2
            revoked = walk.paste("Try it")
            assert "All is well." in revoked
            assert "403 Forbidden" in revoked
            assert 'scope="write:reports"' in revoked
        assert "All is well." in walk.paste("Add a command")
        walk.paste("Test and document it")

    def check(*command: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=checkout, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    check("ruff", "format", "--check", ".")
    check("ruff", "check", "app/reports", "app/api", "app/cli", "migrations", "tests/api")
    check("alembic", "check")
    check("pytest", "-q", "-p", "no:cacheprovider", "tests/api/test_reports.py")
    check("pytest", "-q", "-p", "no:cacheprovider", "tests/test_documents.py", "-k", "all_there")
    # What goes through all routes, models or scopes.
    every_route = ("tests/api/test_security.py", "tests/api/test_caller_first.py")
    check("pytest", "-q", "-p", "no:cacheprovider", "--token-kinds", "default", *every_route)
    lists = ("tests/api/test_docs.py", "tests/api/test_console.py")
    names = "declares or summaries or described or example or repeats"
    check("pytest", "-q", "-p", "no:cacheprovider", "--token-kinds", "default", *lists, "-k", names)
