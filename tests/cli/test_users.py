"""`scopegate user …`: the promises beside those in test_cli."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from types import SimpleNamespace

import pytest

from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.commands import Environment, printed, refusal, scopegate, succeed
from tests.support.factories import PASSWORD, login, make_user


async def test_a_list_is_searched_and_never_floods(
    environment: Environment, own_runtime: Runtime
) -> None:
    for name in ("Alina", "Berta", "Alinda", "Carl"):
        await make_user(own_runtime, "read:items", username=name)
    found = await printed("user", "list", "--search", "ALIN")
    assert [each["username"] for each in found] == ["Alinda", "Alina"]
    few = await scopegate("user", "list", "--limit", "2", "--json")
    assert [each["username"] for each in json.loads(few.stdout)] == ["Carl", "Alinda"]
    assert "see more with --limit" in few.stderr
    assert (await scopegate("user", "list", "--limit", "4")).stderr == ""


async def test_show_tells_grants_and_sessions(
    environment: Environment, own_runtime: Runtime
) -> None:
    alice = await make_user(own_runtime, "read:items", username="Alice")
    await succeed("grant", "alice", "write:items", "--for", "2h", "--reason", "on call")
    async with client_of(own_runtime) as client:
        await login(client, alice)
    shown = await printed("user", "show", "alice")
    assert (shown["id"], shown["disabled"]) == (str(alice.id), False)
    assert [each["scope"] for each in shown["grants"]] == ["read:items", "write:items"]
    assert shown["grants"][1]["reason"] == "on call"
    assert shown["grants"][1]["expires_at"] > shown["grants"][1]["granted_at"]
    assert [each["scopes"] for each in shown["sessions"]] == [["read:items", "write:items"]]
    table = await succeed("user", "show", "Alice")
    assert "on call" in table
    assert shown["sessions"][0]["id"] in table
    assert await refusal("user", "show", "nobody") == "There is no such user."


async def test_show_tells_the_ids_of_a_services_secrets_and_never_the_secrets(
    environment: Environment,
) -> None:
    made = await printed("user", "create", "worker", "--service")
    assert (await printed("user", "secret", "worker"))["client_id"] == "worker"
    shown = await succeed("user", "show", "worker", "--json")
    first, _second = json.loads(shown)["secrets"]
    assert first["secret_id"] == made["secret_id"]
    assert made["secret_id"] in await succeed("user", "show", "worker")
    assert made["client_secret"] not in shown


async def test_what_somebody_else_chose_cant_command_the_terminal(
    environment: Environment, own_runtime: Runtime
) -> None:
    alice = await make_user(own_runtime, username="Alice")
    async with client_of(own_runtime) as client:
        client.headers["User-Agent"] = "\x1b[2J\x07evil"
        await login(client, alice)
    await succeed("grant", "alice", "read:items", "--reason", "two\nlines")
    table = await succeed("user", "show", "alice")
    assert "\x1b" not in table
    assert r"\x1b[2J\x07evil" in table
    assert r"two\nlines" in table


async def test_a_person_is_renamed(environment: Environment, own_runtime: Runtime) -> None:
    await make_user(own_runtime, username="Alice")
    await make_user(own_runtime, username="Bob")
    assert await succeed("user", "rename", "alice", "Alicia") == "Renamed alice to Alicia\n"
    assert "username is taken" in await refusal("user", "rename", "alicia", "bob")
    await succeed("user", "create", "worker", "--service")
    assert "never changes" in await refusal("user", "rename", "worker", "other")


async def test_a_password_that_is_set_counts_and_ends_all_sessions(
    environment: Environment, own_runtime: Runtime
) -> None:
    alice = await make_user(own_runtime, username="Alice", password="the old one of alice")
    async with client_of(own_runtime) as client:
        assert (await login(client, alice, password="the old one of alice")).status_code == 200
        said = await succeed("user", "password", "alice", stdin=f"{PASSWORD}\n")
        assert "Set the password of Alice" in said
        assert PASSWORD not in said
        assert await printed("session", "list", "alice") == []
        assert (await login(client, alice)).status_code == 200
    assert "at least 8 bytes" in await refusal("user", "password", "alice", stdin="short\n")
    assert "no such user" in await refusal("user", "password", "nobody", stdin=f"{PASSWORD}\n")
    await succeed("user", "create", "worker", "--service")
    assert "Only people" in await refusal("user", "password", "worker", stdin=f"{PASSWORD}\n")


@pytest.mark.parametrize("command", ["create", "password"])
async def test_no_command_takes_a_password_as_an_argument(command: str) -> None:
    assert (await scopegate("user", command, "alice", PASSWORD)).exit_code == 2
    assert (await scopegate("user", command, "alice", "--password", PASSWORD)).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("user", "disable", "alice"),
        ("user", "revoke-secret", "alice", "01890000-0000-7000-8000-000000000000"),
        ("session", "end", "01890000-0000-7000-8000-000000000000"),
        ("session", "end-all", "alice"),
        ("key", "retire", "kid"),
    ],
)
async def test_what_cant_be_undone_is_asked_for_at_a_terminal_alone(
    environment: Environment, arguments: tuple[str, ...]
) -> None:
    unasked = await scopegate(*arguments)
    assert "undone" not in unasked.output
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    environment.setattr("app.cli.console.sys", terminal)
    asked = await scopegate(*arguments, stdin="n\n")
    assert asked.exit_code == 1
    assert "This can't be undone: go on?" in asked.stderr
    assert "Aborted" in asked.stderr
    for meant in (
        await scopegate(*arguments, "--yes"),
        await scopegate(*arguments, stdin="y\n"),
    ):
        # It was tried: there is nobody of that name.
        assert str(meant.exception) == str(unasked.exception) != "1"


@pytest.mark.system
async def test_a_real_terminal_is_asked(environment: Environment, own_runtime: Runtime) -> None:
    await make_user(own_runtime, username="Alice")
    command = [sys.executable, "-m", "app", "user", "disable", "alice"]
    for answer, code, disabled in ((b"n\n", 1, False), (b"y\n", 0, True)):
        ours, theirs = pty.openpty()
        os.write(ours, answer)
        ended = await asyncio.to_thread(
            subprocess.run, command, stdin=theirs, capture_output=True, text=True
        )
        os.close(theirs)
        os.close(ours)
        assert "This can't be undone: go on?" in ended.stderr
        assert ended.returncode == code
        assert (await printed("user", "show", "alice"))["disabled"] is disabled


async def test_a_user_is_erased_by_name_or_by_id(
    environment: Environment, own_runtime: Runtime
) -> None:
    mira = await make_user(own_runtime, username="Mirabella")
    await make_user(own_runtime, "admin", username="root")
    bob = await make_user(own_runtime, username="Bob")
    erased = await printed("user", "erase", "mirabella")
    assert erased == {"id": str(mira.id), "username": "Mirabella", "kind": "person"}
    assert await refusal("user", "erase", "mirabella") == "There is no such user."
    assert await refusal("user", "erase", str(mira.id)) == "There is no such user."
    assert await succeed("user", "erase", str(bob.id), "--yes") == f"Erased Bob ({bob.id})\n"
    assert "No other enabled user holds admin" in await refusal("user", "erase", "root")
    again = await refusal("user", "create", "Mirabella", "--service")
    assert again == "That username is taken: choose another."
    shown = await printed("user", "list")
    assert [each["username"] for each in shown] == ["root"]


@pytest.mark.parametrize(("typed", "erased"), [("Mirabella", True), ("y", False), ("", False)])
async def test_at_a_terminal_the_name_is_typed_before_a_user_is_erased(
    environment: Environment, own_runtime: Runtime, typed: str, erased: bool
) -> None:
    await make_user(own_runtime, username="Mirabella")
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", "user", "erase", "Mirabella"),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    # An empty line is asked about again: the end of the input is none.
    os.write(ours, f"{typed}\n\x04".encode())
    _, asked = await process.communicate()
    assert b"type Mirabella" in asked
    assert (process.returncode == 0) is erased
    os.close(ours)
    os.close(theirs)
    left = [each["username"] for each in await printed("user", "list")]
    assert left == ([] if erased else ["Mirabella"])
