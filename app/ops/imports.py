"""Importing people who come from another system: a CSV file of any length, by whole rows.

A batch of rows is one transaction: users, hashes, grants and audit entries. So wherever an import
ends, every row is there wholly or not at all, and the same file again takes up what is missing.
"""

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from app.access.authority import Caller
from app.access.grants import grant_to_newcomers
from app.access.scopes import ScopeNotRegistered, registered_of
from app.errors import DomainError, Refused
from app.identity.passwords import PasswordHasher, check_password
from app.identity.users import (
    NewUser,
    UsernameTaken,
    add_users,
    names_taken,
    normalise_username,
    username_key,
)
from app.runtime import Runtime

COLUMNS = frozenset({"username", "password_hash", "password", "scopes"})
BATCH = 200
"""Rows a transaction."""


class NotThisFile(Refused):
    """The file's first line does not say what stands in it."""

    def __init__(self) -> None:
        super().__init__(
            "The first line must name the columns: username, password_hash or password or both, "
            "and scopes if there are any. Nothing was imported."
        )


class Refusal(NamedTuple):
    """A row that was not imported: where it begins in the file, and why. Nothing that is in it."""

    line: int
    reason: str


@dataclass(slots=True)
class Report:
    """What became of the rows so far."""

    made: int = 0
    already_there: int = 0
    refused: list[Refusal] = field(default_factory=list)

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
    runtime: Runtime, file: Iterable[str], *, by: Caller, progress: Callable[[Report], None]
) -> Report:
    """Make a person of each row of a CSV file; `progress` is told after every batch.

    Who has exactly that name already is there already, and stays as they are. What can't be
    imported is refused, row by row. Raises NotThisFile.
    """
    report = Report()
    rows = _read(file, runtime.hasher)
    while batch := list(islice(rows, BATCH)):
        report.refused += [each for each in batch if isinstance(each, Refusal)]
        await _take_in(
            runtime, [each for each in batch if isinstance(each, Newcomer)], by=by, report=report
        )
        progress(report)
    report.refused.sort()
    return report


def _read(file: Iterable[str], hasher: PasswordHasher) -> Iterator[Newcomer | Refusal]:
    """The rows of the file, one after the other: it may be larger than memory."""
    reader = csv.reader(file, strict=True)
    try:
        columns = next(reader, [])
    except csv.Error:
        raise NotThisFile from None
    if not (
        COLUMNS.issuperset(columns)
        and len(set(columns)) == len(columns)
        and "username" in columns
        and COLUMNS.intersection({"password", "password_hash"}).intersection(columns)
    ):
        raise NotThisFile
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
            if row is None:
                return
            if row:
                yield _check(line, columns, row, hasher)
        except csv.Error:
            yield Refusal(line, "This is not CSV: perhaps a quotation mark is not closed.")
        except DomainError as error:
            yield Refusal(line, str(error))


def _check(line: int, columns: list[str], row: list[str], hasher: PasswordHasher) -> Newcomer:
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
        password_hash=hasher.check_hash(password_hash) if password_hash else None,
        scopes=frozenset(values.get("scopes", "").split()),
    )


async def _take_in(
    runtime: Runtime, newcomers: list[Newcomer], *, by: Caller, report: Report
) -> None:
    """Make those who are not there yet, in one transaction."""
    newcomers = await _absent(runtime, newcomers, report)
    plain = [each for each in newcomers if each.password is not None]
    hashes = await runtime.hasher.hash_all(each.password or "" for each in plain)
    for each, password_hash in zip(plain, hashes, strict=True):
        each.password_hash = password_hash
    if not newcomers:
        return
    users = [NewUser(each.username, "person", each.password_hash) for each in newcomers]
    async with runtime.unit_of_work() as session:
        made = await add_users(session, users, by=by)
        scopes = {
            user.id: each.scopes
            for user, each in zip(users, newcomers, strict=True)
            if user.id in made
        }
        await grant_to_newcomers(session, scopes, by=by, now=runtime.now())
    report.made += len(made)
    # Made by somebody else this very moment.
    report.already_there += len(users) - len(made)


async def _absent(runtime: Runtime, newcomers: list[Newcomer], report: Report) -> list[Newcomer]:
    """Those who can be made; the others are added to the report.

    Asked before any password is hashed: hashing is what takes long, and is not done twice.
    """
    async with runtime.unit_of_work() as session:
        taken = await names_taken(session, [each.username for each in newcomers])
        wanted = frozenset[str]().union(*(each.scopes for each in newcomers))
        registered = await registered_of(session, wanted)
    absent = []
    for each in newcomers:
        key = username_key(each.username)
        kept = taken.get(key)
        if kept == each.username:
            report.already_there += 1
        elif kept is not None:
            report.refused.append(Refusal(each.line, str(UsernameTaken())))
        elif not each.scopes <= registered:
            report.refused.append(Refusal(each.line, str(ScopeNotRegistered())))
        else:
            # For the rows that follow.
            taken[key] = each.username
            absent.append(each)
    return absent
