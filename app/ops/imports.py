"""Importing people who come from another system: a CSV file of any length, by whole rows.

A batch of rows is one transaction: users, hashes, grants and audit entries. So wherever an import
ends, every row is there wholly or not at all, and the same file again takes up what is missing.
"""

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import TextIOWrapper
from itertools import count, islice
from typing import BinaryIO, NamedTuple, TextIO

from app.access.accounts import create_people
from app.access.authority import Caller
from app.access.scopes import ScopeNotRegistered, registered_of
from app.errors import DomainError, Refused
from app.identity.names import normalise_username, username_key
from app.identity.passwords import check_hash, check_password
from app.identity.users import (
    NewUser,
    UsernameTaken,
    names_taken,
    not_lookalikes,
)
from app.runtime import Runtime

COLUMNS = frozenset({"username", "password_hash", "password", "scopes"})
BATCH = 200
"""Rows a transaction."""
MAX_LINE = 64 * 1024
"""Characters a row."""

# How other dialects escape a quotation mark, which RFC 4180 doubles, or a line's end.
_ESCAPED = re.compile(r'\\(?:"|$)')


class NotThisFile(Refused):
    """The file's first line does not say what stands in it."""

    text = (
        "The first line must name the columns: username, password_hash or password or both, "
        "and scopes if there are any. Nothing was imported."
    )


class NotCsv(Refused):
    """The line is no row, so whether the next one begins a row can't be told either."""


class Refusal(NamedTuple):
    """A row that was not imported: its line in the file, and why. Nothing that is in it."""

    line: int
    reason: str


class Stop(NamedTuple):
    """The line that reading can't go past, and why. Nothing that is in it."""

    line: int
    reason: str


@dataclass(slots=True)
class Report:
    """What became of the rows so far.

    `stopped`: where reading ended before the file did. Nothing from that line on was imported.
    """

    made: int = 0
    already_there: int = 0
    refused: list[Refusal] = field(default_factory=list)
    stopped: Stop | None = None

    @property
    def rows(self) -> int:
        """How many rows were dealt with."""
        return self.made + self.already_there + len(self.refused)


@dataclass(slots=True)
class Newcomer:
    """A row that can be imported, as far as it can be told by itself."""

    line: int
    username: str
    password: str | None
    """In the form to be hashed; None when there is a hash already."""
    password_hash: str | None
    scopes: frozenset[str]


async def import_people(
    runtime: Runtime, file: BinaryIO, *, by: Caller, progress: Callable[[Report], None]
) -> Report:
    """Make a person of each row of a CSV file, and close it; `progress` is told after every batch.

    Who has exactly that name already is there already, and stays as they are. What can't be
    imported is refused, row by row. At a line that is no row the import stops. Raises NotThisFile.
    """
    report = Report()
    rows = _read(file)
    while batch := list(islice(rows, BATCH)):
        report.refused += [each for each in batch if isinstance(each, Refusal)]
        report.stopped = next((each for each in batch if isinstance(each, Stop)), None)
        await _take_in(
            runtime, [each for each in batch if isinstance(each, Newcomer)], by=by, report=report
        )
        progress(report)
    report.refused.sort()
    return report


def _read(file: BinaryIO) -> Iterator[Newcomer | Refusal | Stop]:
    """The rows of the file, one after the other: it may be larger than memory."""
    # What is not UTF-8 comes through as no text at all, and its row alone is refused. By default a
    # carriage return would end a line too: some programs write one into a field without quoting it.
    with TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="\n") as lines:
        columns = _columns(lines)
        for line in count(2):
            try:
                row = _fields(lines)
                if row is None:
                    return
                if row:
                    yield _check(line, columns, row)
            except NotCsv as error:
                yield Stop(line, str(error))
                return
            except DomainError as error:
                yield Refusal(line, str(error))


def _columns(lines: TextIO) -> list[str]:
    """What the first line says that stands in the others. Raises NotThisFile."""
    try:
        columns = _fields(lines) or []
    except NotCsv:
        raise NotThisFile from None
    if not (
        COLUMNS.issuperset(columns)
        and len(set(columns)) == len(columns)
        and "username" in columns
        and COLUMNS.intersection({"password", "password_hash"}).intersection(columns)
    ):
        raise NotThisFile
    return columns


def _fields(lines: TextIO) -> list[str] | None:
    """The fields of the next line, none of a blank one; None at the end. Raises NotCsv.

    Stricter than RFC 4180, by which a row may go on in the next line. Nothing that is imported has
    a line's end in it; so where a quotation mark is left open, or is not one by the rule, what
    follows may be a user's text, made to look like a row that grants them `admin`.
    """
    line = lines.readline(MAX_LINE + 1)
    if not line:
        return None
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
        return next(csv.reader([line], strict=True))
    except csv.Error:
        raise NotCsv("This line is not CSV: is a quotation mark in it not doubled?") from None


def _check(line: int, columns: list[str], row: list[str]) -> Newcomer:
    """What the row says, if it can be so. Raises Refused."""
    if len(row) != len(columns):
        raise Refused(
            f"The row has {len(row)} fields, not {len(columns)}: what has commas in it, as argon2 "
            "hashes do, is quoted."
        )
    values = dict(zip(columns, row, strict=True))
    username = normalise_username(values["username"])
    password, password_hash = values.get("password"), values.get("password_hash")
    if bool(password) == bool(password_hash):
        raise Refused("A row has either a password or a password_hash.")
    return Newcomer(
        line,
        username,
        password=check_password(password, username=username) if password else None,
        password_hash=check_hash(password_hash) if password_hash else None,
        scopes=frozenset(values.get("scopes", "").split()),
    )


async def _take_in(
    runtime: Runtime, newcomers: list[Newcomer], *, by: Caller, report: Report
) -> None:
    """Make those who are not there yet, in one transaction."""
    while newcomers := await _absent(runtime, newcomers, by=by, report=report):
        plain = [each for each in newcomers if each.password_hash is None]
        hashes = await runtime.hasher.hash_all(each.password or "" for each in plain)
        for each, password_hash in zip(plain, hashes, strict=True):
            each.password_hash = password_hash
        users = [NewUser(each.username, "person", each.password_hash) for each in newcomers]
        scopes = {user.id: each.scopes for user, each in zip(users, newcomers, strict=True)}
        async with runtime.work(by) as work:
            made = await create_people(work, users, scopes)
        report.made += len(made)
        # Another process has just taken the other names: look again which.
        newcomers = [
            each for user, each in zip(users, newcomers, strict=True) if user.id not in made
        ]


async def _absent(
    runtime: Runtime, newcomers: list[Newcomer], *, by: Caller, report: Report
) -> list[Newcomer]:
    """Those who can be made; the others are added to the report.

    Asked before any password is hashed: hashing is what takes long, and is not done twice.
    """
    # A unit of work, because missing skeletons of names are written on the way.
    async with runtime.work(by) as work:
        names = [each.username for each in newcomers]
        taken = await names_taken(work.db, names)
        unlike_others = await not_lookalikes(work.db, names)
        wanted = frozenset[str]().union(*(each.scopes for each in newcomers))
        registered = await registered_of(work.db, wanted)
    absent = []
    for each in newcomers:
        key = username_key(each.username)
        name, kind = taken.get(key, (None, "person"))
        if kind == "service":
            report.refused.append(Refusal(each.line, "A service account has that name."))
        elif name == each.username:
            report.already_there += 1
        elif name is not None or each.username not in unlike_others:
            report.refused.append(Refusal(each.line, str(UsernameTaken())))
        elif not each.scopes <= registered:
            report.refused.append(Refusal(each.line, str(ScopeNotRegistered())))
        else:
            # For the rows that follow.
            taken[key] = (each.username, "person")
            absent.append(each)
    return absent
