"""Page tokens by themselves: bound to all that they are made for, as long as they may be used."""

import base64
from datetime import UTC, datetime, timedelta

import pytest

from app.crypto import mac
from app.tokens.page_tokens import PAGE_LIFETIME, TICKET_BYTES, PageTokens

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_a_token_is_read_with_what_it_was_made_for_and_has_a_ticket_of_its_own() -> None:
    tokens = PageTokens(["a secret", "an older one"])
    token = tokens.write("cookie", "request", now=NOW)
    ticket = tokens.read(token, "cookie", "request", now=NOW)
    assert ticket is not None
    assert len(ticket) == TICKET_BYTES
    again = tokens.write("cookie", "request", now=NOW)
    assert tokens.read(again, "cookie", "request", now=NOW) != ticket
    older = PageTokens(["an older one"]).write("cookie", now=NOW)
    assert tokens.read(older, "cookie", now=NOW) is not None
    assert PageTokens(["another"]).read(token, "cookie", "request", now=NOW) is None


@pytest.mark.parametrize("bound_to", [(), ("ab",), ("abc", ""), ("a", "bc"), ("ab", "d")])
def test_texts_that_are_divided_in_another_way_are_others(bound_to: tuple[str, ...]) -> None:
    tokens = PageTokens(["a secret"])
    token = tokens.write("ab", "c", now=NOW)
    assert tokens.read(token, "ab", "c", now=NOW) is not None
    assert tokens.read(token, *bound_to, now=NOW) is None


def test_what_a_browser_sends_may_be_no_text_at_all() -> None:
    """A request may have halves of surrogates: they are bound to as they came."""
    tokens = PageTokens(["a secret"])
    token = tokens.write("\ud800", now=NOW)
    assert tokens.read(token, "\ud800", now=NOW) is not None
    assert tokens.read(token, "\ud801", now=NOW) is None


@pytest.mark.parametrize(
    ("age", "is_good"),
    [
        (-2 * SECOND, False),
        (-1 * SECOND, True),
        (0 * SECOND, True),
        (PAGE_LIFETIME + SECOND, True),
        (PAGE_LIFETIME + 1.5 * SECOND, False),
    ],
)
def test_a_page_may_stay_open_for_an_hour_and_clocks_may_differ_by_a_second(
    age: timedelta, is_good: bool
) -> None:
    tokens = PageTokens(["a secret"])
    token = tokens.write("cookie", now=NOW)
    assert (tokens.read(token, "cookie", now=NOW + age) is not None) == is_good


def test_a_page_token_has_one_spelling() -> None:
    tokens = PageTokens(["a secret"])
    token = tokens.write("cookie", now=NOW)
    for other in (f"{token[:8]} {token[8:]}", f"{token[:8]}!{token[8:]}", token[:-4], "é", ""):
        assert tokens.read(other, "cookie", now=NOW) is None


def test_the_seal_is_made_for_pages_alone() -> None:
    """What is made of the same secret for another purpose is no page token."""
    tokens = PageTokens(["a secret"])
    head = base64.urlsafe_b64decode(tokens.write(now=NOW))[:-32]
    sealed = head + mac(b"a secret", b"scopegate page", head)
    assert tokens.read(base64.urlsafe_b64encode(sealed).decode(), now=NOW) is not None
