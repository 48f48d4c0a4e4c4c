"""What a string of scopes means, and what counts as holding enough."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.access.scopes import format_scope, parse_scope, satisfies
from app.errors import InvalidScope

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
