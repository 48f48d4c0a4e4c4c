"""What a string of scopes means, and what counts as holding enough."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.access.authority import OPERATOR
from app.access.scopes import format_scope, parse_scope, register_scope, satisfies
from app.errors import InvalidScope, Refused
from app.runtime import Runtime

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


@pytest.mark.parametrize(
    ("name", "description"),
    [
        (".", "One dot"),
        ("..", "Two dots"),
        ("a/b", "A slash"),
        ("read:reports", "x" * 501),
        ("read:reports", "nul\0"),
        ("read:reports", "\udcff"),
    ],
)
async def test_what_could_not_be_named_in_a_path_or_shown_is_not_registered(
    runtime: Runtime, name: str, description: str
) -> None:
    async with runtime.unit_of_work() as session:
        with pytest.raises(Refused):
            await register_scope(session, name, description=description, by=OPERATOR)
