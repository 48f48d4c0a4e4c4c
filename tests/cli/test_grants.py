"""`scopegate grant` with an end and a reason, and `scopegate scope …`."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import typer
from sqlalchemy import delete, text

from app.access.models import Grant, Scope
from app.access.scopes import SHIPPED
from app.cli.times import parse_duration, parse_moment, parse_since
from app.db.locks import Lock, take_lock
from app.runtime import Runtime
from tests.support.commands import Environment, printed, refusal, scopegate, succeed
from tests.support.databases import wait_for_lock
from tests.support.factories import OPERATOR, make_user


async def test_a_grant_ends_when_it_is_said_to(
    environment: Environment, own_runtime: Runtime
) -> None:
    await make_user(own_runtime, username="Alice")
    said = await succeed(
        *("grant", "alice", "read:items", "--until", "2999-01-31T18:00+01:00", "--reason", "leave")
    )
    assert said == "Granted to Alice until 2999-01-31T17:00:00Z: read:items\n"
    (held,) = (await printed("user", "show", "alice"))["grants"]
    assert (held["expires_at"], held["reason"]) == ("2999-01-31T17:00:00Z", "leave")
    await succeed("grant", "alice", "read:items", "--for", "1h30m")
    (held,) = (await printed("user", "show", "alice"))["grants"]
    left = datetime.fromisoformat(held["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=1) < left < timedelta(hours=2)
    await succeed("grant", "alice", "read:items")
    (held,) = (await printed("user", "show", "alice"))["grants"]
    assert held["expires_at"] is None


async def test_an_end_that_is_past_or_said_twice_is_refused(
    environment: Environment, own_runtime: Runtime
) -> None:
    await make_user(own_runtime, username="Alice")
    assert "past" in await refusal("grant", "alice", "read:items", "--until", "2001-01-01")
    twice = await scopegate(
        *("grant", "alice", "read:items", "--for", "1h", "--until", "2999-01-01")
    )
    assert (twice.exit_code, "use one" in twice.stderr) == (2, True)
    for wrong in ("soon", "1x", "-1h", "0s", "9999999w", "999999999999w", "1h!", "h"):
        assert (await scopegate("grant", "alice", "read:items", "--for", wrong)).exit_code == 2
    assert (await scopegate("grant", "alice", "read:items", "--until", "soon")).exit_code == 2
    assert (await printed("user", "show", "alice"))["grants"] == []


async def test_a_reason_is_text_of_bounded_length(
    environment: Environment, own_runtime: Runtime
) -> None:
    await make_user(own_runtime, username="Alice")
    grant = ("grant", "alice", "read:items", "--reason")
    assert "at most 500" in await refusal(*grant, "x" * 501)
    assert "no broken characters" in await refusal(*grant, "nul\0")
    assert "not UTF-8" in (await scopegate(*grant, "\udcff")).stderr
    register = ("scope", "register", "read:reports", "--description")
    assert "at most 500" in await refusal(*register, "x" * 501)
    assert "no broken characters" in await refusal(*register, "nul\0")
    await succeed(*grant, "x" * 500)
    (held,) = (await printed("user", "show", "alice"))["grants"]
    assert held["reason"] == "x" * 500


async def test_commands_with_several_scopes_hold_none_while_they_wait_for_an_earlier_one(
    environment: Environment, own_runtime: Runtime
) -> None:
    """Else they could wait for each other in a circle, together with who removes a scope."""
    environment.setenv("SCOPEGATE_DATABASE_STATEMENT_TIMEOUT", "60")
    await make_user(own_runtime, "admin", username="root")
    for scope in ("x:a", "x:b"):
        await succeed("scope", "register", scope, "--description", "Of another service")
    bob = await make_user(own_runtime, "admin", "x:a", username="bob")
    await make_user(own_runtime, username="carol")
    for command in (
        ("revoke", "bob", "x:a", "admin"),
        ("grant", "carol", "x:b", "admin", "--for", "1h"),
    ):
        # Whoever takes `admin` from somebody waits for this lock.
        async with own_runtime.work(OPERATOR) as work:
            await take_lock(work.db, Lock.LAST_ADMIN)
            waiting = asyncio.create_task(scopegate(*command))
            await wait_for_lock(own_runtime)
            taken = delete(Grant).where(Grant.user_id == bob.id, Grant.scope == "x:a")
            async with own_runtime.sessions() as other:
                await other.execute(text("SET LOCAL lock_timeout = '1s'"))
                await other.execute(taken)
                await other.execute(delete(Scope).where(Scope.name == "x:b"))
        assert (await waiting).exit_code == 0


async def test_of_several_grants_all_are_made_or_none(
    environment: Environment, own_runtime: Runtime
) -> None:
    await make_user(own_runtime, username="Alice")
    assert "no scope no:such" in await refusal("grant", "alice", "read:items", "no:such")
    assert (await printed("user", "show", "alice"))["grants"] == []


async def test_a_scope_that_is_misspelt_is_not_taken_for_revoked(
    environment: Environment, own_runtime: Runtime
) -> None:
    await make_user(own_runtime, "read:items", username="Alice")
    assert "no scope read:itms" in await refusal("revoke", "alice", "read:items", "read:itms")
    (held,) = (await printed("user", "show", "alice"))["grants"]
    assert held["scope"] == "read:items"
    assert "nothing, the user held none of them" in await succeed("revoke", "alice", "write:items")


async def test_a_scope_is_registered_granted_and_removed(
    environment: Environment, own_runtime: Runtime
) -> None:
    await make_user(own_runtime, username="Alice")
    await succeed("scope", "register", "read:reports", "--description", "Read reports")
    listed = {each["name"]: each["description"] for each in await printed("scope", "list")}
    assert listed == {**SHIPPED, "read:reports": "Read reports"}
    await succeed("grant", "alice", "read:reports")
    assert "revoke it everywhere" in await refusal("scope", "remove", "read:reports")
    await succeed("revoke", "alice", "read:reports")
    assert await succeed("scope", "remove", "read:reports") == "Removed read:reports\n"
    assert "no such scope" in await refusal("scope", "remove", "read:reports")
    assert "ships with" in await refusal("scope", "remove", "admin")
    assert "two dots" in await refusal("scope", "register", "a/..", "--description", "x")
    assert (await scopegate("scope", "register", "a")).exit_code == 2


def test_times_are_read_as_they_are_typed() -> None:
    assert parse_moment("2027-01-31T18:00+01:00") == datetime(2027, 1, 31, 17, tzinfo=UTC)
    local = datetime(2027, 1, 31).astimezone()
    assert parse_moment("2027-01-31") == local
    assert parse_duration("1d12h") == timedelta(days=1, hours=12)
    assert parse_duration("90s") == timedelta(seconds=90)
    before = datetime.now(UTC)
    assert before <= parse_since("2h") + timedelta(hours=2) <= datetime.now(UTC)
    assert parse_since("2027-01-31T18:00Z") == datetime(2027, 1, 31, 18, tzinfo=UTC)
    for wrong in ("", "9999-12-31T23:00-23:00", "2027-13-01"):
        with pytest.raises(typer.BadParameter):
            parse_moment(wrong)
