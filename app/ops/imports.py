"""Importing people who come from another system: a file of any length, by whole rows.

A batch of rows is one transaction: users, hashes, grants and audit entries. So wherever an import
stops, each row is imported completely or not at all, and importing the same file again adds the
missing rows.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO

from app.access.accounts import create_people
from app.access.authority import Caller
from app.access.scopes import MAX_SCOPE, ScopeNotRegistered, registered_of
from app.errors import DomainError, Refused
from app.identity.erased_names import free_names
from app.identity.foreign_hashes import check_hash
from app.identity.names import normalise_username, username_key
from app.identity.passwords import check_password
from app.identity.users import (
    AddressTaken,
    NewUser,
    UsernameTaken,
    addresses_taken,
    names_of,
    names_taken,
)
from app.mail.addresses import Address, find_address, parse_address
from app.ops.people_files import Place, Refusal, Row, Stop, rows_of
from app.runtime import Runtime

BATCH = 200
"""Rows a transaction."""


@dataclass(slots=True)
class Report:
    """The results of the rows so far.

    `stopped`: where reading ended before the file did. Nothing from that line on was imported.
    """

    made: int = 0
    already_there: int = 0
    refused: list[Refusal] = field(default_factory=list)
    stopped: Stop | None = None

    @property
    def rows(self) -> int:
        """The number of rows that were processed."""
        return self.made + self.already_there + len(self.refused)


@dataclass(slots=True)
class Newcomer:
    """A row that passed every check that needs no database."""

    place: Place
    username: str
    password: str | None
    """In the form to be hashed; None when there is a hash already."""
    password_hash: str | None
    scopes: frozenset[str]
    address: Address | None
    """Which its owner has confirmed there."""

    def new_user(self) -> NewUser:
        """Return the user to be added."""
        verified = self.address is not None
        return NewUser(self.username, "person", self.password_hash, self.address, verified)


async def import_people(
    runtime: Runtime, file: BinaryIO, *, by: Caller, progress: Callable[[Report], None]
) -> Report:
    """Create a person from each row of a file, and close it; call `progress` after each batch.

    A user who has exactly that name counts as already there, and is not changed. A row that can't
    be imported is refused, and the import continues. A line that is not a row stops the import.
    Raises NotThisFile or NotUtf8.
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
    report.refused.sort(key=lambda each: (each.place.line, each.place.user or 0))
    return report


def _read(file: BinaryIO) -> Iterator[Newcomer | Refusal | Stop]:
    """The rows of the file, one after the other: it may be larger than memory."""
    for row in rows_of(file):
        if not isinstance(row, Row):
            yield row
            continue
        try:
            yield _check(row)
        except DomainError as error:
            yield Refusal(row.place, str(error))


def _check(row: Row) -> Newcomer:
    """Return the row's values, checked. Raises Refused."""
    place, values = row
    username = normalise_username(values["username"])
    password, password_hash = values.get("password"), values.get("password_hash")
    if bool(password) == bool(password_hash):
        raise Refused("Give each row a password or a password_hash, not both.")
    return Newcomer(
        place,
        username,
        password=check_password(password, username=username) if password else None,
        password_hash=check_hash(password_hash.strip()) if password_hash else None,
        scopes=frozenset(values.get("scopes", "").split()),
        address=parse_address(values["email"]) if values.get("email", "").strip() else None,
    )


async def _take_in(
    runtime: Runtime, newcomers: list[Newcomer], *, by: Caller, report: Report
) -> None:
    """Create the people who do not exist yet, in one transaction."""
    while newcomers := await _absent(runtime, newcomers, by=by, report=report):
        plain = [each for each in newcomers if each.password_hash is None]
        hashes = await runtime.hasher.hash_all(each.password or "" for each in plain)
        for each, password_hash in zip(plain, hashes, strict=True):
            each.password_hash = password_hash
        users = [each.new_user() for each in newcomers]
        scopes = {user.id: each.scopes for user, each in zip(users, newcomers, strict=True)}
        async with runtime.work(by) as work:
            made = await create_people(work, users, scopes)
        report.made += len(made)
        # Another process has just taken the other names: check these again.
        newcomers = [
            each for user, each in zip(users, newcomers, strict=True) if user.id not in made
        ]


async def _absent(
    runtime: Runtime, newcomers: list[Newcomer], *, by: Caller, report: Report
) -> list[Newcomer]:
    """Return the rows to create, and add the others to the report.

    This runs before any password is hashed, because hashing is slow and must not be repeated.
    """
    # A unit of work, because missing skeletons of names are written on the way.
    async with runtime.work(by) as work:
        names = [each.username for each in newcomers]
        taken = await names_taken(work.db, names)
        addresses = {each.address.key: each.address for each in newcomers if each.address}
        taken_addresses = await addresses_taken(work.db, addresses.values())
        free = await free_names(work, names)
        wanted = frozenset[str]().union(*(each.scopes for each in newcomers))
        registered = await registered_of(work.db, wanted)
    absent = []
    for each in newcomers:
        address = each.address.key if each.address else None
        as_address = find_address(each.username)
        key = username_key(each.username)
        name, kind = taken.get(key, (None, "person"))
        if kind == "service":
            report.refused.append(Refusal(each.place, "A service account has that name."))
        elif name == each.username:
            report.already_there += 1
        elif (
            name is not None
            or each.username not in free
            or (as_address and as_address.key in taken_addresses)
        ):
            report.refused.append(Refusal(each.place, str(UsernameTaken())))
        elif each.address and (
            address in taken_addresses or not names_of(each.address).isdisjoint(taken)
        ):
            report.refused.append(Refusal(each.place, str(AddressTaken())))
        elif not each.scopes <= registered:
            unknown = [name for name in each.scopes - registered if _can_be_named(name)]
            report.refused.append(Refusal(each.place, str(ScopeNotRegistered(*unknown))))
        else:
            # For the rows that follow.
            taken[key] = (each.username, "person")
            if address is not None:
                taken_addresses.add(address)
            absent.append(each)
    return absent


def _can_be_named(scope: str) -> bool:
    """Whether a report may show it: not what may be a password or hash in the wrong column."""
    return len(scope) <= MAX_SCOPE and re.fullmatch(r"[A-Za-z][A-Za-z0-9_.:/-]*", scope) is not None
