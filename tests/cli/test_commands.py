"""How an async function becomes a command: what is opened for it, and when it asks and prints."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest
import typer
from sqlalchemy import text

from app.cli.commands import command
from app.runtime import Runtime
from tests.support.commands import Environment, printed, scopegate
from tests.support.factories import PASSWORD

SESSION = "01890000-0000-7000-8000-000000000000"
FAILING_COMMIT = (
    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE 'refused at the commit'; END $$",
    "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON scopes DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION refuse()",
)


@pytest.fixture
def unreachable(environment: Environment) -> Environment:
    """A database that can't be opened, so what is asked or refused comes before."""
    environment.setenv("SCOPEGATE_DATABASE_URL", "postgresql://u@127.0.0.1:1/n")
    return environment


async def test_nothing_is_printed_when_the_commit_fails(
    environment: Environment, own_runtime: Runtime
) -> None:
    async with own_runtime.engine.begin() as connection:
        for statement in FAILING_COMMIT:
            await connection.execute(text(statement))
    refused = await scopegate("scope", "register", "x:y", "--description", "Why")
    assert refused.exit_code == 1
    assert "refused at the commit" in str(refused.exception)
    assert refused.output == ""
    assert "x:y" not in {each["name"] for each in await printed("scope", "list")}


async def test_a_command_asks_before_it_opens_the_database(unreachable: Environment) -> None:
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    unreachable.setattr("app.cli.console.sys", terminal)
    refused = await scopegate("session", "end", SESSION, stdin="n\n")
    assert f"Ending session {SESSION} signs its user out there. This can't" in refused.stderr
    assert "Aborted" in refused.stderr
    meant = await scopegate("session", "end", SESSION, stdin="y\n")
    assert isinstance(meant.exception, OSError), "only now the database is missed"


@pytest.mark.parametrize(
    ("arguments", "stdin", "complaint"),
    [
        (["user", "create", "alice"], "", "No password came in"),
        (["user", "password", "alice"], "", "No password came in"),
        (["user", "create", "alice"], f"{PASSWORD}\n", "Connect call failed"),
        (["user", "create", "worker", "--service"], "", "Connect call failed"),
    ],
)
async def test_a_password_is_read_before_the_database_is_opened(
    unreachable: Environment, arguments: list[str], stdin: str, complaint: str
) -> None:
    assert complaint in str((await scopegate(*arguments, stdin=stdin)).exception)


async def test_wrong_usage_is_refused_before_the_database_is_opened(
    unreachable: Environment,
) -> None:
    twice = await scopegate("grant", "alice", "a", "--for", "1h", "--until", "2999-01-01")
    assert (twice.exit_code, "use one" in twice.stderr) == (2, True)


async def without_parameters() -> str:
    return ""


async def with_another_first(db: Runtime, work: str) -> str:
    return f"{db}{work}"


@pytest.mark.parametrize("function", [without_parameters, with_another_first])
def test_a_command_whose_first_parameter_is_neither_runtime_nor_work_is_refused(
    function: Callable[..., Awaitable[str]],
) -> None:
    with pytest.raises(TypeError, match=f"{function.__name__}: its first parameter is not"):
        command(typer.Typer(), "some")(function)
