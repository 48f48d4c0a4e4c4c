"""The project's own files agree: Makefile, CI, markers."""

import re
import tomllib
from typing import Any

import pytest
import yaml

from app.settings import PROJECT

MAKEFILE = (PROJECT / "Makefile").read_text()
CI = (PROJECT / ".ci" / "run").read_text()
WORKFLOW: dict[str, Any] = yaml.safe_load(
    (PROJECT / ".github" / "workflows" / "ci.yml").read_text()
)
COMMANDS = "\n".join(
    step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step
)
# GitHub's machines bring these.
PREINSTALLED = {"chromium", "curl", "npm"}


def made_by(script: str) -> set[str]:
    return set(re.findall(r"^(?:PATH=\S+ )?make ([a-z-]+)", script, re.M))


@pytest.mark.parametrize("script", [CI, COMMANDS], ids=["ci", "workflow"])
def test_ci_runs_the_commands_that_people_run(script: str) -> None:
    assert made_by(script) >= {"check", "test", "test-all"}
    assert [name for name in made_by(script) if f"\n{name}: " not in MAKEFILE] == []


def test_both_ways_of_ci_install_the_same_packages() -> None:
    in_loop = re.search(r"^for program in (.*);", CI, re.M)
    assert in_loop
    needed = {
        *in_loop[1].partition(";")[0].split(),
        *re.findall(r"^need \S+ (\S+)$", CI, re.M),
        *re.findall(r"missing\+=\(([a-z0-9-]+)\)$", CI, re.M),
    }
    installed = re.search(r"--no-install-recommends \\\n(.*)$", COMMANDS, re.M)
    assert installed
    assert set(installed[1].split()) == needed - PREINSTALLED


def test_what_make_test_leaves_out_is_marked_by_known_marks() -> None:
    expression = re.search(r"^EVERY_DAY := not \((.*)\)$", MAKEFILE, re.M)
    assert expression
    options = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["pytest"]
    known = {line.partition(":")[0] for line in options["ini_options"]["markers"]}
    assert set(expression[1].split(" or ")) < known
