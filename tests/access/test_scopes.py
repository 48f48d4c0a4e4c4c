"""What a string of scopes means, and what counts as holding enough."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, select, text, update

from app.access.grants import MAX_REMARK
from app.access.models import Grant, Scope
from app.access.registry import ScopeGranted, ScopeShips, register_scope, remove_scope
from app.access.resources import MAX_RESOURCE
from app.access.scopes import (
    MAX_SCOPE,
    MAX_SCOPES_BYTES,
    SHIPPED,
    ScopeNotRegistered,
    format_scope,
    parse_scope,
    put_shipped_scopes,
    registered_of,
    registered_scopes,
    require_registered,
    satisfies,
)
from app.errors import InvalidScope, Refused
from app.runtime import Runtime
from tests.support.audit import told
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, make_user, signed_in

scopes = st.frozensets(st.sampled_from(["read:items", "write:items", "read:users", "introspect"]))


@given(held=scopes, required=scopes)
def test_all_that_is_required_must_be_held(held: frozenset[str], required: frozenset[str]) -> None:
    assert satisfies(held, required) == all(scope in held for scope in required)
    assert satisfies(held | {"admin"}, required), "admin satisfies every requirement"


@given(asked=scopes.filter(bool))
def test_a_scope_string_says_each_scope_once_in_one_order(asked: frozenset[str]) -> None:
    text = format_scope(asked)
    assert parse_scope(text) == asked
    assert parse_scope(f" {text}  {text} ") == asked
    assert text == format_scope(parse_scope(text))


@pytest.mark.parametrize("text", ["", " ", "a\tb", 'a"b', "a\\b", "a\nb", "é", "a\0", "\x7f"])
def test_illegal_characters_are_invalid_scope(text: str) -> None:
    with pytest.raises(InvalidScope):
        parse_scope(text)


@pytest.mark.parametrize("part", ["a ", " ", "a", "read:items ", "é"])
def test_a_scope_longer_than_4_kib_is_invalid_scope(part: str) -> None:
    with pytest.raises(InvalidScope, match="ask for less"):
        parse_scope(part * (MAX_SCOPES_BYTES // len(part) + 1))
    if part == "a ":
        assert parse_scope(part * (MAX_SCOPES_BYTES // len(part))) == {"a"}


@pytest.mark.parametrize(
    ("name", "description"),
    [
        (".", "One dot"),
        ("..", "Two dots"),
        ("a/../b", "Two dots between slashes"),
        ("read:reports", "x" * 501),
        ("read:reports", "nul\0"),
        ("read:reports", "\udcff"),
    ],
)
async def test_what_could_not_be_named_in_a_path_or_shown_is_not_registered(
    runtime: Runtime, name: str, description: str
) -> None:
    async with runtime.work(OPERATOR) as work:
        with pytest.raises(Refused):
            await register_scope(work, name, description=description)


async def test_a_scope_may_be_as_long_as_is_said_and_registering_it_again_is_nothing(
    runtime: Runtime,
) -> None:
    root = await make_user(runtime, "admin")
    name, remark = "x" * MAX_SCOPE, "y" * MAX_REMARK
    async with runtime.work(await signed_in(runtime, root, "admin")) as work:
        for _ in range(2):
            scope = await register_scope(work, name, description=remark)
            assert (scope.name, scope.description) == (name, remark)
        registered = (root.id, None, {"scope": name, "description": remark})
        assert await told(work.db, "scope.registered") == [registered]
        scope = await register_scope(work, name, description="Another")
        assert scope.description == "Another"
        assert len(await told(work.db, "scope.registered")) == 2
        for longer in (
            {"name": name + "x", "description": ""},
            {"name": "a", "description": remark + "y"},
        ):
            with pytest.raises(Refused):
                await register_scope(work, **longer)
        with pytest.raises(ScopeShips):
            await register_scope(work, "admin", description="Mine")
        others = select(Scope).where(Scope.name != name).order_by(Scope.name)
        assert {each.name: each.description for each in await work.db.scalars(others)} == SHIPPED


async def test_a_scope_may_belong_to_a_resource_and_is_registered_anew_when_that_alone_changes(
    runtime: Runtime,
) -> None:
    async with runtime.work(OPERATOR) as work:
        for resource in ("https://orders.example", "https://stock.example", None):
            scope = await register_scope(work, "ship", description="Ship", resource=resource)
            assert scope.resource == resource
        registered = [detail for _, _, detail in await told(work.db, "scope.registered")]
        said = {"scope": "ship", "description": "Ship"}
        assert registered == [
            said | {"resource": "https://orders.example"},
            said | {"resource": "https://stock.example"},
            said,
        ]
        longest = "https://orders.example/".ljust(MAX_RESOURCE, "x")
        scope = await register_scope(work, "ship", description="Ship", resource=longest)
        assert scope.resource == longest
        for unfit in ("orders.example", "https://orders.example/#part", longest + "x"):
            with pytest.raises(Refused, match="absolute URI"):
                await register_scope(work, "ship", description="Ship", resource=unfit)


async def test_the_registered_scopes_are_told_in_order_page_by_page(runtime: Runtime) -> None:
    names = sorted([*SHIPPED, "aa:first"])
    async with runtime.work(OPERATOR) as work:
        await register_scope(work, "aa:first", description="First")
        first = [each.name for each in await registered_scopes(work.db, limit=3)]
        rest = [each.name for each in await registered_scopes(work.db, after=first[-1])]
        assert await registered_of(work.db, {"aa:first", "admin", "no:such", "\0"}) == {
            "aa:first",
            "admin",
        }
        assert await registered_of(work.db, {"\0"}) == set()
        await require_registered(work.db, {"aa:first", "admin"})
        with pytest.raises(ScopeNotRegistered, match="There is no scope no, no:such: see"):
            await require_registered(work.db, {"admin", "no:such", "no", "\0"})
    assert (first, rest) == (names[:3], names[3:])


async def test_removing_a_scope_takes_what_has_ended_of_it_and_nothing_that_is_held(
    runtime: Runtime, clock: MovableClock
) -> None:
    root, end = await make_user(runtime, "admin"), clock() + timedelta(minutes=30)
    caller = await signed_in(runtime, root, "admin")
    async with runtime.work(caller) as work:
        for name in ("x:y", "z"):
            await register_scope(work, name, description="")
    user = await make_user(runtime, "x:y", "z", "read:items", expires_at=end)
    async with runtime.work(caller) as work:
        then = replace(work, now=end)
        with pytest.raises(ScopeShips):
            await remove_scope(then, "read:items")
        with pytest.raises(ScopeGranted):
            await remove_scope(replace(work, now=end - timedelta(microseconds=1)), "x:y")
        await remove_scope(then, "x:y")
        with pytest.raises(ScopeNotRegistered, match="There is no such scope: see"):
            await remove_scope(then, "x:y")
        left = select(Grant.scope).where(Grant.user_id == user.id).order_by(Grant.scope)
        assert (await work.db.scalars(left)).all() == ["read:items", "z"]
        assert {each.name for each in await registered_scopes(work.db)} == {*SHIPPED, "z"}
        assert await told(work.db, "scope.removed") == [(root.id, None, {"scope": "x:y"})]


async def test_the_shipped_scopes_are_put_right_and_written_only_where_they_are_wrong(
    runtime: Runtime,
) -> None:
    async with runtime.work(OPERATOR) as work:

        async def written() -> set[str]:
            """Whose rows are written by that: each is somewhere else then."""
            before = {tuple(row) for row in await work.db.execute(places)}
            await (await work.db.connection()).run_sync(put_shipped_scopes)
            after = {tuple(row) for row in await work.db.execute(places)}
            return {name for name, _ in after - before}

        places = text("SELECT name, ctid::text FROM scopes")
        assert await written() == set()
        await work.db.execute(delete(Scope).where(Scope.name == "introspect"))
        of_items = update(Scope).where(Scope.name == "read:items")
        await work.db.execute(of_items.values(description="Something else"))
        assert await written() == {"introspect", "read:items"}
        found = {each.name: each.description for each in await work.db.scalars(select(Scope))}
        assert found == SHIPPED
