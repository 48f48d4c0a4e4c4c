"""`scopegate audit`: all that is done is told, also while it is followed."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from app.audit.log import follow_entries, record
from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.commands import Environment, refusal, scopegate, succeed
from tests.support.factories import OPERATOR, PASSWORD, login, make_user
from tests.support.processes import ROOT


def objects(lines: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines.splitlines()]


async def test_entries_are_told_newest_last_a_line_each(
    environment: Environment, own_runtime: Runtime
) -> None:
    alice = await make_user(own_runtime, "read:items", username="Alice")
    await make_user(own_runtime, username="Bob")
    async with client_of(own_runtime) as client:
        await login(client, alice)
    lines = (await succeed("audit", "--user", "alice")).splitlines()
    assert [line.split()[1] for line in lines] == ["user.created", "grant.made", "login.succeeded"]
    assert "- > Alice" in lines[0]
    assert "Alice > Alice" in lines[2]
    assert PASSWORD not in "".join(lines)
    told = objects(await succeed("audit", "--user", "alice", "--json"))
    assert [each["action"] for each in told] == [line.split()[1] for line in lines]
    assert all(each["subject"] == str(alice.id) for each in told)


async def test_the_log_is_narrowed(environment: Environment, own_runtime: Runtime) -> None:
    await make_user(own_runtime, "read:items", username="Alice")
    created = objects(await succeed("audit", "--action", "user.created", "--json"))
    assert [each["action"] for each in created] == ["user.created"]
    (newest,) = objects(await succeed("audit", "--limit", "1", "--json"))
    assert newest["action"] == "grant.made"
    assert len((await succeed("audit", "--since", "1h")).splitlines()) == 3
    assert await succeed("audit", "--since", "2999-01-01") == ""
    assert "no such user" in await refusal("audit", "--user", "nobody")
    assert (await scopegate("audit", "--action", "no.such")).exit_code == 2
    assert (await scopegate("audit", "--since", "lately")).exit_code == 2


@asynccontextmanager
async def following(*arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", "audit", "--follow", *arguments), cwd=ROOT, stdout=PIPE
    )
    assert process.stdout
    try:
        yield process.stdout
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.system
@pytest.mark.parametrize("as_json", [True, False])
async def test_follow_shows_what_is_done_from_now_on(
    environment: Environment, own_runtime: Runtime, as_json: bool
) -> None:
    await make_user(own_runtime, username="Alice")
    options = ["--json"] if as_json else []
    async with asyncio.timeout(60), following("--limit", "1", *options) as told:
        assert b"user.created" in await told.readline()
        await succeed("grant", "alice", "read:items")
        line = await told.readline()
        assert b"grant.made" in line
        assert not as_json or json.loads(line)["detail"]["scope"] == "read:items"
        await succeed("revoke", "alice", "read:items")
        assert b"grant.revoked" in await told.readline()


@pytest.mark.system
async def test_follow_tells_each_entry_once_in_whatever_order_they_are_committed(
    environment: Environment, own_runtime: Runtime
) -> None:
    await make_user(own_runtime, username="Alice")
    async with asyncio.timeout(60), following("--limit", "1", "--json") as told:
        await told.readline()
        async with own_runtime.work(OPERATOR) as slow:
            record(slow, "key.rotated", made="begun first")
            await slow.db.flush()
            async with own_runtime.work(OPERATOR) as quick:
                record(quick, "key.rotated", made="committed first")
            seen = [json.loads(await told.readline())["detail"]["made"]]
        seen.append(json.loads(await told.readline())["detail"]["made"])
        async with own_runtime.work(OPERATOR) as last:
            record(last, "key.rotated", made="last")
        seen.append(json.loads(await told.readline())["detail"]["made"])
    assert seen == ["committed first", "begun first", "last"]


@pytest.mark.system
async def test_follow_tells_what_was_committed_while_its_reader_paused(
    own_runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So any pause is a long one.
    monkeypatch.setattr("app.audit.log.LONGEST_TRANSACTION", timedelta())
    told = follow_entries(own_runtime.sessions, action="scope.removed", limit=1)
    seen = [await anext(told)]
    for scope in ("while it paused", "while it paused again"):
        async with own_runtime.work(OPERATOR) as work:
            record(work, "scope.removed", scope=scope)
        seen.append(await anext(told))
    seen.append(await anext(told))
    assert [[each.detail["scope"] for each in found] for found in seen] == [
        [],
        ["while it paused"],
        ["while it paused again"],
        [],
    ]


async def test_names_are_those_of_accounts_that_exist_also_in_json(
    environment: Environment, own_runtime: Runtime
) -> None:
    mira = await make_user(own_runtime, username="Mirabella")
    shown = (await scopegate("audit", "--json")).stdout.splitlines()
    assert json.loads(shown[-1])["names"] == {str(mira.id): "Mirabella"}
    assert "Mirabella" in (await scopegate("audit")).stdout
    await succeed("user", "rename", "mirabella", "Mira")
    shown = (await scopegate("audit", "--json")).stdout.splitlines()
    assert [json.loads(each)["names"] for each in shown[-2:]] == [{str(mira.id): "Mira"}] * 2
    await scopegate("user", "erase", "mira")
    everything = (await scopegate("audit", "--json")).stdout + (await scopegate("audit")).stdout
    assert "mira" not in everything.lower()
    assert str(mira.id) in everything
