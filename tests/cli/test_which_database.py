"""A command says which database it uses, and never makes a second one beside the service's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.db.embedded import EmbeddedPostgres, is_running
from tests.support.commands import Environment, scopegate, succeed
from tests.support.factories import PASSWORD

pytestmark = pytest.mark.system
COMMANDS = [
    ["user", "list"],
    ["user", "create", "alice"],
    ["grant", "alice", "read:items"],
    ["audit"],
    ["key", "rotate"],
    ["prune"],
    ["recover", "--yes"],
]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: Environment) -> Path:
    """A home in which there is nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCOPEGATE_HOME", "elsewhere")
    return tmp_path / "elsewhere"


@pytest.fixture
def used(tmp_path: Path, monkeypatch: Environment) -> Iterator[Path]:
    """A home whose database some other process uses, like a service."""
    home = tmp_path / "home"
    monkeypatch.setenv("SCOPEGATE_HOME", str(home))
    share = EmbeddedPostgres.start(home)
    yield home
    share.release()


@pytest.mark.parametrize("command", [*COMMANDS, ["serve"]], ids=" ".join)
async def test_a_command_elsewhere_makes_no_second_database_and_says_where_it_looked(
    elsewhere: Path, command: list[str]
) -> None:
    refused = await scopegate(*command, stdin=f"{PASSWORD}\n")
    assert refused.exit_code == 1
    assert f"there is no database in {elsewhere}: set SCOPEGATE_HOME" in str(refused.exception)
    assert not elsewhere.exists()


async def test_the_doctor_says_where_it_looked(elsewhere: Path) -> None:
    told = await scopegate("doctor")
    assert told.exit_code == 1
    assert f"there is no database in {elsewhere}" in told.stdout
    assert "which SCOPEGATE_HOME" in told.stdout
    assert not elsewhere.exists()


async def test_a_command_says_which_database_it_uses_where_no_service_runs(used: Path) -> None:
    async def said(*command: str) -> str:
        result = await scopegate(*command)
        assert result.exit_code == 0, result.exception
        return result.stderr

    # Only who migrates makes a database, and asks for no service.
    assert await said("migrate", "--first-admin") == ""
    assert await said("user", "list") == ""
    assert is_running(used)


async def test_a_database_that_no_service_uses_is_named(elsewhere: Path) -> None:
    assert "up to date" in await succeed("migrate")
    for command in (["user", "list"], ["scope", "list"], ["prune"], ["doctor", "--json"]):
        told = await scopegate(*command)
        assert f"no service runs on the database in {elsewhere}" in told.stderr
        assert "no service" not in told.stdout
    assert (await scopegate("migrate", "--first-admin")).stderr == ""
    assert not is_running(elsewhere)
