"""The commands: they call what the API calls, and speak plainly when they can't."""

import asyncio
import errno
import io
import json
import os
import re
import sys
import uuid
from itertools import product, takewhile
from typing import Any

import httpx2
import pytest
from asyncpg import InvalidPasswordError, ObjectNotInPrerequisiteStateError
from sqlalchemy.exc import SQLAlchemyError

from app.cli import console, main
from app.errors import ScopegateError
from tests.conftest import client_of
from tests.support.commands import Environment, commands, scopegate, succeed
from tests.support.factories import PASSWORD, Someone, login


async def test_a_user_is_made_granted_listed_and_revoked(environment: Environment) -> None:
    made = await succeed(
        "user", "create", "Alice", "--scope", "read:items", "--json", stdin=f"{PASSWORD}\n"
    )
    assert json.loads(made)["granted"] == ["read:items"]
    assert "Granted to Alice: write:items" in await succeed("grant", "alice", "write:items")
    (alice,) = json.loads(await succeed("user", "list", "--json"))
    assert alice["granted"] == ["read:items", "write:items"]
    assert "Revoked from Alice: read:items" in await succeed(
        "revoke", "ALICE", "read:items", "admin"
    )
    assert "nothing" in await succeed("revoke", "alice", "read:items")
    table = await succeed("user", "list")
    assert table.splitlines()[1].split() == ["Alice", "person", "no", "write:items"]


async def test_a_service_account_gets_secrets_shown_once(environment: Environment) -> None:
    made = json.loads(
        await succeed("user", "create", "worker", "--service", "--scope", "read:items", "--json")
    )
    assert made["client_id"] == "worker"
    assert made["client_secret"].startswith("sgs_")
    second = await succeed("user", "secret", "worker")
    assert "client_secret sgs_" in second
    with pytest.raises(AssertionError, match="live secrets already"):
        await succeed("user", "secret", "worker")
    assert "Revoked a secret of worker" in await succeed(
        "user", "revoke-secret", "worker", made["secret_id"]
    )
    again = await scopegate("user", "create", "other", "--service")
    assert "client_secret sgs_" in again.output


async def test_a_user_is_disabled_and_enabled(environment: Environment) -> None:
    await succeed("user", "create", "Alice", stdin=f"{PASSWORD}\n")
    assert "Disabled Alice" in await succeed("user", "disable", "alice")
    assert json.loads(await succeed("user", "list", "--json"))[0]["disabled"] is True
    assert "Enabled Alice" in await succeed("user", "enable", "alice")
    assert json.loads(await succeed("user", "list", "--json"))[0]["disabled"] is False


async def test_the_last_admin_goes_only_by_force(environment: Environment) -> None:
    await succeed("user", "create", "root", "--scope", "admin", stdin=f"{PASSWORD}\n")
    ending = ["grant", "root", "admin", "--for", "1h"]
    for command in (["revoke", "root", "admin"], ["user", "disable", "root"], ending):
        refused = await scopegate(*command)
        assert refused.exit_code == 1
        assert "No other enabled user holds admin" in str(refused.exception)
    assert "Disabled root" in await succeed("user", "disable", "root", "--force")
    await succeed("user", "enable", "root")
    assert "until" in await succeed(*ending, "--force")
    assert "Revoked from root: admin" in await succeed("revoke", "root", "admin", "--force")


async def test_keys_are_listed_rotated_rewrapped_and_retired(environment: Environment) -> None:
    async def states() -> dict[str, str]:
        keys = json.loads(await succeed("key", "list", "--json"))
        return {each["kid"]: each["state"] for each in keys}

    (old,) = await states()
    made = json.loads(await succeed("key", "rotate", "--json"))
    published = made["kid"]
    assert (made["state"], made["retires_at"]) == ("published", None)
    assert await states() == {old: "signs", published: "published"}
    new = (await succeed("key", "rotate", "--now")).split()[3]
    assert await states() == {old: "verifies", published: "published", new: "signs"}
    assert "Retired" in await succeed("key", "retire", old)
    assert (await states())[old] == "retired"
    assert "Rewrapped 3 keys" in await succeed("key", "rewrap")
    assert "retired" in await succeed("key", "list")
    refused = await scopegate("key", "retire", "no-such-key")
    assert "no such key" in str(refused.exception)


async def test_times_are_written_in_one_way(environment: Environment) -> None:
    """For programs as the API has them, for people to the second; always in UTC, by a Z."""
    await succeed("user", "create", "worker", "--service")
    await succeed("key", "rotate")
    commands = (["key", "list"], ["key", "rotate"], ["user", "show", "worker"], ["audit"])
    for command, moment in product(commands, (r"\d\dZ", r"\d\d\.\d{6}Z")):
        said = await succeed(*command, *(["--json"] if "6" in moment else []))
        written = re.findall(r"\d{4}-\d\d-\d\dT\d\d:\d\d:[^\s\",]+", said)
        assert written, said
        assert [each for each in written if not re.fullmatch(f".*:{moment}", each)] == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["session", "end", "nonsense"], "this is not an id, such as 0189"),
        (["user", "revoke-secret", "worker", "nonsense"], "this is not an id, such as 0189"),
        (["audit", "--action", "foo"], "there is no such kind of entry: it is one of login.succ"),
        (["audit", "--since", "yesterday"], "or how long ago, 2h or 1d12h"),
        (["audit", "--limit", "9" * 20], "less than or equal to 1000000"),
        (["user", "list", "--limit", "1000001"], "less than or equal to 1000000"),
        (["session", "list", "alice", "--limit", "-1"], "greater than or equal to 0"),
        (["user", "list", "--search", "a\udcffb"], "Invalid value for search: this is not UTF-8"),
        (["user", "show", "\udcff"], "Invalid value for name: this is not UTF-8"),
        (["user", "create", "Bob", "--scope", "\udcff"], "for scope: this is not UTF-8"),
        (["grant", "alice", "read:items", "\udcff"], "for scopes: this is not UTF-8"),
        (["grant", "alice", "read:items", "--reason", "\udcff"], "for reason: this is not"),
        (["audit", "--user", "\udcff"], "for user: this is not UTF-8"),
        (["key", "retire", "\udcff"], "for kid: this is not UTF-8"),
        (["migrate", "--grant-to", "\udcff"], "for grant_to: this is not UTF-8"),
    ],
)
async def test_wrong_usage_is_told_in_words_of_ours(arguments: list[str], complaint: str) -> None:
    result = await scopegate(*arguments)
    assert result.exit_code == 2
    assert complaint in unframed(result.stderr)


async def test_help_breaks_lines_where_they_are_full() -> None:
    lines = (await succeed("key", "rewrap", "--help")).splitlines()
    begin = next(i for i, line in enumerate(lines) if "Refresh tokens" in line)
    paragraph = list(takewhile(str.strip, lines[begin:]))
    assert all(len(line.rstrip()) > 50 for line in paragraph[:-1]), paragraph


def unframed(text: str) -> str:
    """What an error says, without the frame and the line breaks that it is shown with."""
    return " ".join(word for word in text.split() if word != "│")


async def test_prune_says_what_it_removed(environment: Environment) -> None:
    removed = await succeed("prune")
    assert "Removed 0 sessions of earlier epochs, 0 authorization codes, 0 consents of" in removed


async def test_first_admin_is_made_once_with_a_password_shown_once(
    environment: Environment,
) -> None:
    first = await succeed("migrate", "--first-admin")
    assert "made the user admin, password " in first
    assert "password" not in await succeed("migrate", "--first-admin")
    (admin,) = json.loads(await succeed("user", "list", "--json"))
    assert admin["granted"] == ["admin"]


async def test_first_admin_does_not_come_back_once_there_are_users(
    environment: Environment, own_client: httpx2.AsyncClient
) -> None:
    environment.setenv("SCOPEGATE_ADMIN_PASSWORD", PASSWORD)
    await succeed("migrate", "--first-admin")
    await succeed("user", "create", "root", "--scope", "admin", stdin=f"{PASSWORD} of root\n")
    await succeed("user", "rename", "admin", "retired")
    await succeed("user", "disable", "retired", "--yes")
    assert "made the user" not in await succeed("migrate", "--first-admin")
    answer = await login(own_client, Someone(uuid.uuid4(), "admin"))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_first_admin_may_have_a_password_that_was_set(environment: Environment) -> None:
    environment.setenv("SCOPEGATE_ADMIN_PASSWORD", PASSWORD)
    assert PASSWORD not in await succeed("migrate", "--first-admin")
    from app.runtime import Runtime
    from app.settings import Settings

    async with Runtime.open(Settings()) as runtime, client_of(runtime) as client:
        form = {"username": "admin", "password": PASSWORD}
        assert (await client.post("/token", data=form)).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "stdin", "complaint"),
    [
        (["user", "create", "Bob"], "short\n", "at least 8 bytes"),
        (["user", "create", "Bob"], "\n", "at least 8 bytes"),
        (["user", "create", "Bob"], "", "No password came in"),
        (["user", "create", "two words"], f"{PASSWORD}\n", "no spaces"),
        (["user", "create", "Bob", "--scope", "no:such"], f"{PASSWORD}\n", "no scope no:such"),
        (["grant", "nobody", "read:items"], "", "no such user"),
        (["revoke", "nobody", "read:items"], "", "no such user"),
        (["user", "create", "Bob"], f"{PASSWORD}\nline2\n", "More than one line"),
        (["user", "create", "Bob"], f"{PASSWORD}\r\n\r\nline3", "More than one line"),
        (["user", "create", "Bob"], f"\n{PASSWORD}\n", "More than one line"),
    ],
)
async def test_what_cant_be_done_is_said_and_nothing_is_half_done(
    environment: Environment, arguments: list[str], stdin: str, complaint: str
) -> None:
    result = await scopegate(*arguments, stdin=stdin)
    assert result.exit_code == 1
    assert complaint in str(result.exception)
    assert json.loads(await succeed("user", "list", "--json")) == []


@pytest.mark.parametrize("command", ["scopegate", *commands()])
async def test_every_command_answers_help(command: str) -> None:
    assert "Usage" in await succeed(*command.split()[1:], "--help")


async def test_help_tells_the_exit_codes() -> None:
    told = " ".join((await succeed("--help")).split())
    assert "Exit codes: 0 done; 1 it could not be done" in told
    assert "Exit code 3: some rows were refused" in " ".join(
        (await succeed("user", "import", "--help")).split()
    )


async def test_password_typed_twice_must_be_the_same(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([PASSWORD, PASSWORD, PASSWORD, "another"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _: next(answers))
    assert console.read_password() == PASSWORD
    with pytest.raises(ScopegateError, match="not the same"):
        console.read_password()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ScopegateError("It can't be done"), "It can't be done"),
        (TimeoutError(), "the database does not answer: TimeoutError"),
        (ConnectionRefusedError("refused"), "the database does not answer: refused"),
        (OSError(28, "No space left on device"), "the database does not answer: [Errno 28] No"),
        (PermissionError(13, "Permission denied", "/x"), "/x can't be used: Permission denied"),
        (
            ObjectNotInPrerequisiteStateError("recovery is in progress"),
            "as a standby does: lead to",
        ),
        (InvalidPasswordError("no"), "the database refuses: no"),
        (SQLAlchemyError("no such column\nand more"), "the database refuses: no such column"),
    ],
)
def test_main_says_in_one_line_what_an_operator_can_mend(
    error: Exception,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("app.cli.cli", fail)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1


async def test_a_password_is_one_line_however_it_ends(environment: Environment) -> None:
    for number, end in enumerate(["", "\n", "\r\n", "\n\n", "\r\n\r\n"]):
        name = f"person{number}"
        await succeed("user", "create", name, stdin=f" {PASSWORD} ü{end}")
        from app.runtime import Runtime
        from app.settings import Settings

        async with Runtime.open(Settings()) as runtime, client_of(runtime) as client:
            form = {"username": name, "password": f" {PASSWORD} ü"}
            assert (await client.post("/token", data=form)).status_code == 200


def test_a_line_is_a_password_while_the_input_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as stdin, os.fdopen(writer, "wb", buffering=0) as typed:
        monkeypatch.setattr("sys.stdin", stdin)
        typed.write(f"{PASSWORD}\n".encode())
        assert console.read_password() == PASSWORD


@pytest.mark.parametrize("typed", [b"\xff", b"a horse, a staple \xe9\n", b"\xc3"])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_password_that_is_not_utf8_is_refused_as_such(
    monkeypatch: pytest.MonkeyPatch, typed: bytes, terminal: bool
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(typed), errors="surrogateescape")
    monkeypatch.setattr("sys.stdin", stdin)
    if terminal:
        monkeypatch.setattr(stdin, "isatty", lambda: True)
        monkeypatch.setattr("getpass.getpass", lambda _: typed.decode())
    with pytest.raises(ScopegateError, match="The password is not UTF-8"):
        console.read_password()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["user", "create", "Bob"], "No password came in"),
        (["user", "disable", "Bob"], "There is no such user"),
    ],
)
async def test_without_standard_input_there_is_nothing_to_read(
    environment: Environment,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    environment.setattr("sys.argv", ["scopegate", *arguments])
    environment.setattr("sys.stdin", None)
    with pytest.raises(SystemExit) as caught:
        await asyncio.to_thread(main)
    sys.stdin.close()
    assert caught.value.code == 1
    assert said in capsys.readouterr().err


class Full(io.RawIOBase):
    """A device that takes nothing until it is emptied."""

    number: int = errno.ENOSPC

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.number:
            raise OSError(self.number, os.strerror(self.number))
        return memoryview(data).nbytes


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        (["--version"], errno.ENOSPC),
        (["--help"], errno.EIO),
        (["key", "list"], errno.EFBIG),
        (["audit"], errno.ENOSPC),
    ],
)
async def test_output_that_cant_be_written_is_said(
    environment: Environment, capsys: pytest.CaptureFixture[str], arguments: list[str], number: int
) -> None:
    await succeed("key", "rotate")
    device = Full()
    device.number = number
    environment.setattr("sys.argv", ["scopegate", *arguments])
    environment.setattr("sys.stdout", io.TextIOWrapper(device))  # type: ignore[type-var]
    with pytest.raises(SystemExit) as caught:
        await asyncio.to_thread(main)
    device.number = 0
    assert caught.value.code == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == f"scopegate: the output can't be written: {os.strerror(number)}"


@pytest.mark.parametrize(
    ("encoding", "shown"), [("latin-1", "\\u65e5\\u672c"), ("utf-8", "日本"), ("cp1252", "\\u672c")]
)
async def test_what_an_encoding_lacks_is_shown_as_escapes(
    environment: Environment, encoding: str, shown: str
) -> None:
    await succeed("user", "create", "日本", stdin=PASSWORD)
    written = io.BytesIO()
    for arguments in (["user", "show", "日本"], ["user", "list"], ["audit", "--user", "日本"]):
        environment.setattr("sys.argv", ["scopegate", *arguments])
        environment.setattr("sys.stdout", io.TextIOWrapper(written, encoding=encoding))
        with pytest.raises(SystemExit) as caught:
            await asyncio.to_thread(main)
        assert caught.value.code == 0
        assert shown.encode(encoding) in written.getvalue()
        written.truncate(0)


def test_main_says_what_is_wrong_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SCOPEGATE_ENVIRONMENT", "production")
    monkeypatch.setattr("sys.argv", ["scopegate", "user", "list"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert "SCOPEGATE_SECRET_KEYS is not set" in capsys.readouterr().err
