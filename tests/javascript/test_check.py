"""The JavaScript is checked, and a check that can't run never passes in CI."""

import json

import pytest

from tests.javascript.check import LOCK, main
from tests.javascript.declarations import declarations


@pytest.mark.parametrize(("ci", "status"), [("true", 1), ("", 0)])
def test_a_machine_without_npm_says_so_and_ci_fails(
    ci: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", ci)
    assert main() == status
    assert capsys.readouterr().err == "The JavaScript is not checked: node and npm not found.\n"


def test_the_types_come_from_the_api_and_the_pages_configuration() -> None:
    types = declarations()
    scope = "name: string; description: string; resource: string | null; built_in: boolean;"
    assert f"type ScopeAnswer = {{ {scope} }};" in types
    assert 'type KindConfig = { name: "person" | "service"; text: string; };' in types
    assert "expires_at?: string | null;" in types
    assert '"PUT /users/{user_id}/grants/{scope}"' in types
    assert "unknown;" not in types.replace("Record<string, unknown>;", "")


def test_the_lock_has_a_hash_of_each_package_and_no_registry() -> None:
    packages = json.loads(LOCK.read_text())["packages"]
    assert packages.pop("")
    assert packages
    assert all("resolved" not in each and each["integrity"] for each in packages.values())
