"""Files of people: CSV of any length, or JSON as other systems export it, read row by row.

What a row says is checked by `app.ops.imports`. Which kind of file it is, its first line shows.
"""

import csv
import json
import re
from collections.abc import Iterator
from io import TextIOWrapper
from itertools import chain, count
from typing import BinaryIO, NamedTuple, TextIO

from app.errors import Refused
from app.ops.exports import Values, gotrue_row, row_of
from app.ops.json_users import REPEATED, JsonDecoder, JsonReader

COLUMNS = frozenset({"username", "password_hash", "password", "scopes", "email"})
GOTRUE_COLUMNS = frozenset({"email", "encrypted_password"})
MAX_LINE = 64 * 1024
"""Characters a row."""
MAX_DOCUMENT = 64 * 1024 * 1024
"""Characters of a file that is one JSON document, which is held in memory."""

# How other dialects escape a quotation mark, which RFC 4180 doubles, or a line's end.
_ESCAPED = re.compile(r'\\(?:"|$)')
_UTF_16 = ("\udcff\udcfe", "\udcfe\udcff")
_UNDECODED = re.compile("[\udc80-\udcff]")


class NotThisFile(Refused):
    """The file's first line does not say what stands in it."""

    text = (
        "The first line must name the columns: username, password_hash or password or both, "
        "and scopes and email if there are any. Nothing was imported."
    )


class NotUtf8(Refused):
    """The file is in another encoding, or no text."""

    text = (
        "This file is not UTF-8, but perhaps UTF-16 or Latin-1: save it as UTF-8. "
        "Nothing was imported."
    )


class NotCsv(Refused):
    """The line is no row, so whether the next one begins a row can't be told either."""


class Place(NamedTuple):
    """Where a row begins: the line, and in a JSON list the user, since many may share a line."""

    line: int
    user: int | None = None
    """Counted from 1."""

    def __str__(self) -> str:
        return f"line {self.line}" + (f", user {self.user}" if self.user else "")


class Row(NamedTuple):
    """What stands in a row, by columns."""

    place: Place
    values: Values


class Refusal(NamedTuple):
    """A row that was not imported: its place in the file and the reason.

    Of its content, only the names of unknown scopes.
    """

    place: Place
    reason: str


class Stop(NamedTuple):
    """The line where reading stopped and the reason, without its content."""

    line: int
    reason: str


Rows = Iterator[Row | Refusal | Stop]


def rows_of(file: BinaryIO) -> Rows:
    """Read the rows of a file, and close it. Raises NotThisFile, or NotUtf8 for all of it."""
    # What is not UTF-8 comes through as no text at all, and its row alone is refused. By default a
    # carriage return would end a line too: some programs write one into a field without quoting it.
    with TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="\n") as lines:
        first = lines.readline(MAX_LINE + 1)
        if "\0" in first or first.startswith(_UTF_16):
            raise NotUtf8
        if not first.lstrip().startswith(("{", "[")):
            yield from _csv_rows(first, lines)
        elif _is_one_of_many(first):
            yield from _json_lines(first, lines)
        else:
            yield from _json_document(first + lines.read(MAX_DOCUMENT + 1))


def _csv_rows(first: str, lines: TextIO) -> Rows:
    columns = _columns(first)
    for number in count(2):
        line = lines.readline(MAX_LINE + 1)
        if not line:
            return
        try:
            fields = _fields(line)
            if fields:
                yield Row(Place(number), _values(columns, fields))
        except NotCsv as error:
            yield Stop(number, str(error))
            return
        except Refused as error:
            yield Refusal(Place(number), str(error))


def _columns(first: str) -> list[str]:
    """What the first line says that stands in the others. Raises NotThisFile or NotUtf8."""
    try:
        columns = _fields(first)
    except NotCsv:
        raise NotThisFile from None
    if not _is_utf8(first):
        raise NotUtf8
    ours = (
        COLUMNS.issuperset(columns)
        and "username" in columns
        and COLUMNS.intersection({"password", "password_hash"}).intersection(columns)
    )
    gotrues = GOTRUE_COLUMNS.issubset(columns) and "username" not in columns
    if len(set(columns)) != len(columns) or not (ours or gotrues):
        raise NotThisFile
    return columns


def _fields(line: str) -> list[str]:
    """The fields of a line, none of a blank one. Raises NotCsv.

    Stricter than RFC 4180, by which a row may go on in the next line. Nothing that is imported has
    a line's end in it; so where a quotation mark is left open, or is not one by the rule, what
    follows may be a user's text, made to look like a row that grants them `admin`.
    """
    if len(line) > MAX_LINE:
        raise NotCsv(f"This line is longer than a row: it has more than {MAX_LINE} characters.")
    line = line.removesuffix("\n").removesuffix("\r")
    if "\r" in line:
        raise NotCsv("A carriage return stands within this line: a row stands in one line.")
    if line.count('"') % 2:
        raise NotCsv("A quotation mark is left open in this line: a row stands in one line.")
    if _ESCAPED.search(line):
        raise NotCsv(
            "A backslash stands before a quotation mark, or ends the line: this is not CSV."
        )
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error:
        raise NotCsv("This line is not CSV: is a quotation mark in it not doubled?") from None


def _values(columns: list[str], fields: list[str]) -> Values:
    if not all(map(_is_utf8, fields)):
        raise Refused("This line is not UTF-8: save the file as UTF-8.")
    if len(fields) != len(columns):
        raise Refused(
            f"The row has {len(fields)} fields, not {len(columns)}: what has commas in it, as "
            "argon2 hashes do, is quoted."
        )
    values = dict(zip(columns, fields, strict=True))
    return values if "username" in values else gotrue_row(values)


def _is_utf8(text: str) -> bool:
    return text.isascii() or not _UNDECODED.search(text)


def _is_one_of_many(line: str) -> bool:
    """Whether the line is a JSON object in itself, a user: so each line is one (NDJSON)."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "users" not in record


def _json_lines(first: str, lines: TextIO) -> Rows:
    decoder = JsonDecoder()
    for number, line in enumerate(
        chain([first], iter(lambda: lines.readline(MAX_LINE + 1), "")), 1
    ):
        if len(line) > MAX_LINE:
            yield Stop(number, f"This line has more than {MAX_LINE} characters.")
            return
        if line.isspace():
            continue
        try:
            record = decoder.decode(line)
        except (ValueError, RecursionError):
            yield Refusal(Place(number), "This line is not JSON.")
        else:
            yield _json_row(Place(number), line, record)


def _json_document(text: str) -> Rows:
    """The elements of a list, or of the member `users` of an object."""
    if len(text) > MAX_DOCUMENT:
        yield Stop(1, f"This document has more than {MAX_DOCUMENT} characters: export it in parts.")
        return
    reader, at, line = JsonReader(text), 0, 1
    try:
        for user, (start, end, record) in enumerate(reader.users(), 1):
            line += text.count("\n", at, start)
            at = start
            yield _json_row(Place(line, user), text[start:end], record)
    except (ValueError, RecursionError):
        line += text.count("\n", at, reader.at)
        yield Stop(line, "This is not JSON from here on, or has no list of users, or several.")


def _json_row(place: Place, text: str, record: object) -> Row | Refusal:
    if not _is_utf8(text):
        return Refusal(place, "This user's text is not UTF-8: save the file as UTF-8.")
    if record is REPEATED:
        return Refusal(place, "This user's JSON says something twice: an object repeats a name.")
    try:
        return Row(place, row_of(record))
    except Refused as error:
        return Refusal(place, str(error))
