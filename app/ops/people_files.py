"""Files of people: CSV of any length, or JSON as other systems export it, read row by row.

What a row says is checked by `app.ops.imports`. Which kind of file it is, its first line shows.
"""

import csv
import json
import re
from collections.abc import Iterator
from io import TextIOWrapper
from itertools import chain, count
from typing import Any, BinaryIO, NamedTuple, TextIO

from app.errors import Refused
from app.ops.exports import Values, gotrue_row, row_of

COLUMNS = frozenset({"username", "password_hash", "password", "scopes"})
GOTRUE_COLUMNS = frozenset({"email", "encrypted_password"})
MAX_LINE = 64 * 1024
"""Characters a row."""
MAX_DOCUMENT = 64 * 1024 * 1024
"""Characters of a file that is one JSON document, which is held in memory."""

# How other dialects escape a quotation mark, which RFC 4180 doubles, or a line's end.
_ESCAPED = re.compile(r'\\(?:"|$)')
_UTF_16 = ("\udcff\udcfe", "\udcfe\udcff")
_UNDECODED = re.compile("[\udc80-\udcff]")
_SPACE = re.compile(r"[ \t\r\n]*")


class NotThisFile(Refused):
    """The file's first line does not name its columns."""

    text = (
        "The first line must name the columns: username, password_hash or password or both, "
        "and scopes if there are any. Nothing was imported."
    )


class NotUtf8(Refused):
    """The file is in another encoding, or no text."""

    text = (
        "This file is not UTF-8, but perhaps UTF-16 or Latin-1: save it as UTF-8. "
        "Nothing was imported."
    )


class NotCsv(Refused):
    """The line is not a valid row, so the next line may not be the start of a row either."""


class Row(NamedTuple):
    """What stands in a row that begins in this line, by columns."""

    line: int
    values: Values


class Refusal(NamedTuple):
    """A row that was not imported: its line in the file and the reason, without its content."""

    line: int
    reason: str


class Stop(NamedTuple):
    """The line where reading stopped and the reason, without its content."""

    line: int
    reason: str


Rows = Iterator[Row | Refusal | Stop]


def rows_of(file: BinaryIO) -> Rows:
    """Read the rows of a file, and close it. Raises NotThisFile, or NotUtf8 for all of it."""
    # Bytes that are not UTF-8 become surrogates, so only their row is refused. By default a
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
                yield Row(number, _values(columns, fields))
        except NotCsv as error:
            yield Stop(number, str(error))
            return
        except Refused as error:
            yield Refusal(number, str(error))


def _columns(first: str) -> list[str]:
    """Return the columns that the first line names. Raises NotThisFile or NotUtf8."""
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

    Stricter than RFC 4180, which lets a row continue in the next line. No imported field contains a
    line break. So after a quotation mark that is left open or wrongly escaped, the next lines may
    be a user's text, written to look like a row that grants them `admin`.
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
    for number, line in enumerate(
        chain([first], iter(lambda: lines.readline(MAX_LINE + 1), "")), 1
    ):
        if len(line) > MAX_LINE:
            yield Stop(number, f"This line has more than {MAX_LINE} characters.")
            return
        if line.isspace():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            yield Refusal(number, "This line is not JSON.")
        else:
            yield _json_row(number, line, record)


def _json_document(text: str) -> Rows:
    """The elements of a list, or of the member `users` of an object."""
    if len(text) > MAX_DOCUMENT:
        yield Stop(1, f"This document has more than {MAX_DOCUMENT} characters: export it in parts.")
        return
    reader, at, line = _JsonReader(text), 0, 1
    try:
        for start, end, record in reader.users():
            line += text.count("\n", at, start)
            at = start
            yield _json_row(line, text[start:end], record)
    except (ValueError, RecursionError):
        line += text.count("\n", at, reader.at)
        yield Stop(line, "This is not JSON from here on, or has no list of users.")


def _json_row(number: int, text: str, record: object) -> Row | Refusal:
    if not _is_utf8(text):
        return Refusal(number, "This user's text is not UTF-8: save the file as UTF-8.")
    try:
        return Row(number, row_of(record))
    except Refused as error:
        return Refusal(number, str(error))


class _JsonReader:
    """Reads a document value by value, so that each keeps its place in the file."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._decoder = json.JSONDecoder()
        self.at = 0

    def users(self) -> Iterator[tuple[int, int, Any]]:
        """Where each user begins and ends, and what they are. Raises ValueError."""
        if self._takes("["):
            yield from self._elements()
            return
        self._expect("{")
        found = False
        while not self._takes("}"):
            name = self._value()
            self._expect(":")
            if name == "users":
                found = True
                self._expect("[")
                yield from self._elements()
            else:
                self._value()
            self._takes(",")
        if not found:
            raise ValueError("users")

    def _elements(self) -> Iterator[tuple[int, int, Any]]:
        while not self._takes("]"):
            self._skip_space()
            start = self.at
            value = self._value()
            yield start, self.at, value
            self._takes(",")

    def _value(self) -> Any:
        self._skip_space()
        value, self.at = self._decoder.raw_decode(self._text, self.at)
        return value

    def _takes(self, expected: str) -> bool:
        self._skip_space()
        found = self._text.startswith(expected, self.at)
        self.at += len(expected) if found else 0
        return found

    def _expect(self, expected: str) -> None:
        if not self._takes(expected):
            raise ValueError(expected)

    def _skip_space(self) -> None:
        space = _SPACE.match(self._text, self.at)
        assert space
        self.at = space.end()
