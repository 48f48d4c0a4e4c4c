"""Which texts are e-mail addresses, and which count as the same."""

import unicodedata

import pytest

from app.errors import Refused
from app.mail.addresses import find_address, parse_address


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Alice@Example.COM", "alice@example.com"),
        (" alice@example.com ", "alice@example.com"),
        ("ÄNNE@bücher.example", "änne@xn--bcher-kva.example"),
        ("A\u0308nne@xn--bcher-kva.example", "änne@xn--bcher-kva.example"),
        ("a+tag@example.com", "a+tag@example.com"),
        ("a@ex\ufe00am\u034fple.com", "a@example.com"),
        ("a@example\u3002com", "a@example.com"),
    ],
)
def test_spellings_of_one_address_have_one_key(text: str, key: str) -> None:
    address = parse_address(text)
    assert address.key == key
    assert address.shown.lower() == unicodedata.normalize("NFC", address.shown.lower())
    assert parse_address(address.shown) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "@", "alice", "alice@", "@example.com", "a b@example.com", "a@b", "a@localhost"),
        *("a@example.com\r\nBcc: b@example.com", "a\0@example.com", "Alice <a@example.com>"),
        *("a@[127.0.0.1]", '"a b"@example.com', "a@example..com", "a@\ud800.example"),
        *("\ud800@example.com", "a@" + "b." * 130 + "example"),
        *("a,b@example.com", "a@example.com,b@example.com", "x" * 1_000_000 + "@example.com"),
    ],
)
def test_what_mail_can_not_be_sent_to_is_refused(text: str) -> None:
    assert find_address(text) is None
    with pytest.raises(Refused):
        parse_address(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("stra\u00dfe@example.com", "strasse@example.com"),
        ("\ufb01ona@example.com", "fiona@example.com"),
        ("\u017fam@example.com", "sam@example.com"),
    ],
)
def test_letters_that_only_fold_alike_are_other_addresses(one: str, other: str) -> None:
    assert parse_address(one).key != parse_address(other).key
