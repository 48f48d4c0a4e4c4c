"""Judges of mutants: where none is asked, everything lives."""

import tomllib
from pathlib import PurePosixPath

from app.settings import PROJECT
from tests.mutants import JUDGES

WITHOUT_CODE = {"__init__", "models"}


def test_every_module_that_is_mutated_has_judges() -> None:
    mutated = {
        f"app.{path.parent.name}.{path.stem}"
        for package in ("access", "tokens")
        for path in (PROJECT / "app" / package).glob("*.py")
        if path.stem not in WITHOUT_CODE
    }

    assert JUDGES.keys() == mutated


def test_every_judge_is_among_the_tests_that_mutmut_runs() -> None:
    mutmut = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["mutmut"]
    run = {PurePosixPath(each) for each in mutmut["pytest_add_cli_args_test_selection"]}
    judges = {PurePosixPath(f"tests/{judge}.py") for each in JUDGES.values() for judge in each}

    assert all((PROJECT / judge).is_file() for judge in judges)
    assert {judge for judge in judges if not run & {judge, *judge.parents}} == set()
