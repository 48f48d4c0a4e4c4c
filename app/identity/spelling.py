"""Unicode's NFKC for text of strangers: bounded, because its cost is not linear."""

import unicodedata

MAX_MARKS = 30
"""Combining marks in a row, as in Unicode's Stream-Safe Text Format (UAX #15 §13).

No language needs more. Python puts them in order by an insertion sort.
"""


def nfkc(text: str, *, at_most: int) -> str | None:
    """Return the text in NFKC, which makes one text of all the ways to type it.

    None when the text has more than `at_most` characters in decomposed form, or more than MAX_MARKS
    combining marks in a row: then it is not normalised, and the cost stays linear in `at_most`.
    """
    if text.isascii():
        return text if len(text) <= at_most else None
    if len(text) > at_most:
        return None
    size = marks = 0
    for character in text:
        # One character at a time: some hide several marks, and one stands for 18 characters.
        for part in unicodedata.normalize("NFKD", character):
            size += 1
            marks = marks + 1 if unicodedata.combining(part) else 0
            if marks > MAX_MARKS or size > at_most:
                return None
    return unicodedata.normalize("NFKC", text)
