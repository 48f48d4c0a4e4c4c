"""Everything that is kept about one user, as one JSON object that is sent while it is read.

SECTIONS says what of which table. A test compares it with the tables there are: a table or a column
without a decision fails it.
"""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Column, Table, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.models import Grant
from app.audit.log import entries_about
from app.audit.models import AuditEntry
from app.db.base import Base
from app.identity.models import (
    AccountLink,
    ClientSecret,
    Consent,
    KnownNetwork,
    Registration,
    Session,
    SignUp,
    User,
)
from app.items.models import Item

PAGE = 500
"""Rows that are read at once, and kept in memory."""
Sessions = async_sessionmaker[AsyncSession]


@dataclass(frozen=True, slots=True)
class Section:
    """The rows of a table that are the user's, and which columns of these stay out, and why."""

    model: type[Base]
    owner: str
    withheld: dict[str, str]

    @property
    def table(self) -> Table:
        """The table."""
        table = self.model.__table__
        assert isinstance(table, Table)
        return table

    @property
    def columns(self) -> list[Column[Any]]:
        """What is exported of each row."""
        out = self.withheld.keys() | ({self.owner} if self.model is not User else set())
        return [each for each in self.table.columns if each.name not in out]


SECRET = "it could be used against its owner, and tells nothing of them"
OTHERS = "it tells what another user did"
INTERNAL = "it says how the service works, and nothing of the user"
COMPARED = "another form of a value that is exported"

SECTIONS = {
    "account": Section(
        User,
        "id",
        {
            "username_key": COMPARED,
            "username_skeleton": COMPARED,
            "email_key": COMPARED,
            "link_epoch": INTERNAL,
            "password_hash": SECRET,
            "session_epoch": INTERNAL,
            "ended_epoch": INTERNAL,
            "erased_at": "an erased account exports nothing",
        },
    ),
    "grants": Section(Grant, "user_id", {}),
    "sessions": Section(
        Session,
        "user_id",
        {
            "epoch": INTERNAL,
            "generation": INTERNAL,
            "rotated_generation": INTERNAL,
            "refresh_key": SECRET,
        },
    ),
    "known_networks": Section(KnownNetwork, "user_id", {}),
    "consents": Section(Consent, "user_id", {}),
    "secrets": Section(ClientSecret, "user_id", {"digest": SECRET}),
    "links": Section(
        AccountLink, "user_id", {"digest": SECRET, "epoch": INTERNAL, "made_by": OTHERS}
    ),
    "sign_up": Section(SignUp, "user_id", {"password_hash": SECRET}),
    "items": Section(Item, "owner_id", {}),
}
"""By the name that each has in the export."""

LEFT_OUT = {
    "outbox": "encrypted mails on their way, of which the person gets each",
    "personal_tokens": "digests of tokens; the session that each stands for is exported",
    "authorization_codes": "they live for a minute, and what comes of them is a session",
    "browser_sessions": "the cookie's digest; the session itself is exported",
    "opaque_tokens": "digests of tokens; the session that they belong to is exported",
    "clients": "an application is not its account, and says nothing of a person",
}
"""Tables that refer to users, directly or by another one, and are no part of an export."""


async def export_of(
    sessions: Sessions, user_id: uuid.UUID, *, now: datetime
) -> AsyncIterator[bytes]:
    """Yield the export, page by page. No connection is held while the client takes a page."""
    yield b'{"exported_at":' + to_json(now)
    for name, section in SECTIONS.items():
        pages = _rows(sessions, section, user_id)
        if section.model is User:
            found = [row async for page in pages for row in page]
            yield b',"account":' + to_json(found[0] if found else None)
            continue
        async for chunk in _list(name, pages):
            yield chunk
    async for chunk in _list("audit", _entries(sessions, user_id)):
        yield chunk
    yield b"}\n"


async def _list(name: str, pages: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[bytes]:
    yield b"," + to_json(name) + b":["
    separator = b""
    async for page in pages:
        if page:
            yield separator + b",".join(map(to_json, page))
            separator = b","
    yield b"]"


async def _rows(
    sessions: Sessions, section: Section, user_id: uuid.UUID
) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield the rows by pages, in the order of the table's primary key."""
    table = section.table
    primary = list(table.primary_key.columns)
    shown = [each.name for each in section.columns]
    statement = select(table).where(table.columns[section.owner] == user_id)
    if section.model is Consent:
        clients = Registration.__table__
        statement = statement.add_columns(
            clients.columns["client_id"], clients.columns["name"]
        ).join(clients, clients.columns["id"] == table.columns["registration_id"])
        shown += ["client_id", "name"]
    statement = statement.order_by(*primary).limit(PAGE)
    after: tuple[Any, ...] | None = None
    while True:
        page = statement if after is None else statement.where(tuple_(*primary) > after)
        async with sessions() as db:
            found = (await db.execute(page)).mappings().all()
        yield [{name: row[name] for name in shown} for row in found]
        if len(found) < PAGE:
            return
        after = tuple(found[-1][each.name] for each in primary)


async def _entries(sessions: Sessions, user_id: uuid.UUID) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield the audit entries about the user by pages, oldest first."""
    after: uuid.UUID | None = None
    while True:
        async with sessions() as db:
            found = await entries_about(db, user_id, after=after, limit=PAGE)
        yield [_shown(each, user_id) for each in found]
        if len(found) < PAGE:
            return
        after = found[-1].id


def _shown(entry: AuditEntry, user_id: uuid.UUID) -> dict[str, Any]:
    """Return the entry, without what it tells of another person who acted."""
    # Who ran a command is named there.
    detail = {name: value for name, value in entry.detail.items() if name != "operator"}
    by_another = entry.actor not in {user_id, None} or "operator" in entry.detail
    return {
        "id": entry.id,
        "at": entry.at,
        "action": entry.action,
        "actor": entry.actor,
        "subject": entry.subject,
        "detail": detail,
        "address": None if by_another else entry.address,
        "request_id": None if by_another else entry.request_id,
    }
