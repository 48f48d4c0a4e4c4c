"""NFKC, and what is too expensive to be normalised."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.identity.spelling import MAX_MARKS, nfkc

MARKS = "\u0301\u0323"


@given(st.text(max_size=30))
def test_what_is_normalised_is_normalised_as_unicode_says(text: str) -> None:
    assert nfkc(text, at_most=1000) == unicodedata.normalize("NFKC", text)


@pytest.mark.parametrize(
    "text",
    [
        "a" + MARKS * 15,
        ("a" + MARKS * 15) * 10,
        "\u1f82" * 250,
        "\u1100\u1161\u11a8" * 100,
        "\ufb01" * 500,
    ],
)
def test_text_of_any_language_is_normalised(text: str) -> None:
    assert nfkc(text, at_most=1000) == unicodedata.normalize("NFKC", text)


@pytest.mark.parametrize(
    "text",
    [
        "\u0301" * (MAX_MARKS + 1),
        MARKS * 500,
        "\u0301" * 400 + "\u0323" * 400,
        # Marks that Unicode counts as none, and that become two.
        "\u0f73" * 500,
        "\u0f75\u0f81" * 200,
        "e" + "\u0344" * 16,
        # Half-width Katakana's, which become marks.
        "\uff76" + "\uff9e" * 31,
        "x" * 900 + "\u0323\u0301" * 16,
    ],
)
def test_endless_marks_are_not_normalised(text: str) -> None:
    assert nfkc(text, at_most=1000) is None


@pytest.mark.parametrize("text", ["x" * 1001, "é" * 501, "\ufdfa" * 56, "\U0001d160" * 334])
def test_what_is_longer_when_it_is_taken_apart_is_not_normalised(text: str) -> None:
    assert nfkc(text, at_most=1000) is None
