"""The first admin's password in a file: when it no longer counts, the file says so."""

from pathlib import Path

import pytest

from tests.support.commands import Environment, refusal, scopegate, succeed
from tests.support.factories import PASSWORD

MIGRATE = ("migrate", "--first-admin")
MIGRATE_GENERATED = (*MIGRATE, "--password-was-generated")
FIRST = "the-first-password-of-all"
NO_LONGER = "The user admin no longer has the password that was here"


@pytest.fixture
def file(environment: Environment, tmp_path: Path) -> Path:
    """The file that the first password is in."""
    found = tmp_path / "password"
    found.write_text(f"{FIRST}\n")
    environment.setenv("SCOPEGATE_ADMIN_PASSWORD_FILE", str(found))
    return found


async def test_while_the_password_counts_the_file_stays_as_it_is(file: Path) -> None:
    for _ in range(3):
        assert "no longer" not in await succeed(*MIGRATE_GENERATED)
        assert file.read_text() == f"{FIRST}\n"


@pytest.mark.parametrize(
    "commands",
    [
        [["user", "password", "admin"]],
        [["user", "rename", "admin", "root"]],
        [["user", "create", "root", "--scope", "admin"], ["user", "disable", "admin", "--yes"]],
    ],
)
async def test_when_a_generated_password_no_longer_counts_its_file_says_so(
    file: Path, commands: list[list[str]]
) -> None:
    await succeed(*MIGRATE_GENERATED)
    for command in commands:
        await succeed(*command, stdin=f"{PASSWORD}\n")
        assert file.read_text() == f"{FIRST}\n"
    told = await succeed(*MIGRATE_GENERATED)
    assert f"admin no longer has the password in {file}" in told
    assert FIRST not in told
    assert file.read_text().startswith(NO_LONGER)
    assert "no longer" not in await succeed(*MIGRATE_GENERATED)


async def test_a_file_that_an_operator_wrote_stays_as_it_is(file: Path) -> None:
    await succeed(*MIGRATE)
    await succeed("user", "password", "admin", stdin=f"{PASSWORD}\n")
    for _ in range(2):
        assert f"admin no longer has the password in {file}" in await succeed(*MIGRATE)
        assert file.read_text() == f"{FIRST}\n"


async def test_a_file_that_cant_be_written_stops_no_migration(
    file: Path, environment: Environment
) -> None:
    await succeed(*MIGRATE_GENERATED)
    await succeed("user", "password", "admin", stdin=f"{PASSWORD}\n")

    def refuse(*_: object) -> int:
        raise PermissionError

    environment.setattr(Path, "write_text", refuse)
    assert "no longer has" in await succeed(*MIGRATE_GENERATED)
    assert file.read_text() == f"{FIRST}\n"


async def test_what_the_file_says_then_is_no_password(file: Path) -> None:
    """Also when the database is lost, and another first admin is made."""
    file.write_text(f"{NO_LONGER}: scopegate user password admin sets another one\n")
    assert "made the user admin, password " in await succeed(*MIGRATE)


async def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    file.unlink()
    assert (await scopegate(*MIGRATE)).exit_code == 1
    assert str(file) in await refusal(*MIGRATE)
