"""Scopes: the ones that ship, what a request's `scope` means, and what counts as holding one."""

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Scope
from app.errors import InvalidScope

ADMIN = "admin"

SHIPPED = {
    "read:items": "Read items",
    "write:items": "Create and change items",
    "read:users": "See users, grants and sessions",
    "write:users": "Create, change and disable users",
    "write:grants": "Grant and revoke scopes",
    "read:audit": "Read the audit log",
    "introspect": "Ask whether a token is active",
    ADMIN: "Full access",
}
"""The one registry: the migration command makes rows of it, `/docs` lists it."""

# RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E ), one space between.
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")


def is_scope_name(name: str) -> bool:
    """Whether it could be the name of a scope at all."""
    return _SCOPE_TOKEN.fullmatch(name) is not None


def parse_scope(scope: str) -> frozenset[str]:
    """The scopes that a request's `scope` parameter names. Raises InvalidScope (RFC 6749 §3.3)."""
    names = [name for name in scope.split(" ") if name]
    if not names or not all(map(is_scope_name, names)):
        raise InvalidScope("The scope has characters that no scope has.")
    return frozenset(names)


def format_scope(scopes: AbstractSet[str]) -> str:
    """The scopes as a token and an answer carry them: one string, always in the same order."""
    return " ".join(sorted(scopes))


def satisfies(held: AbstractSet[str], required: Iterable[str]) -> bool:
    """Whether what is held is enough; `admin` always is."""
    return ADMIN in held or all(scope in held for scope in required)


async def registered_scopes(session: AsyncSession) -> list[Scope]:
    """Every scope there is, by name."""
    return list(await session.scalars(select(Scope).order_by(Scope.name)))


def put_shipped_scopes(connection: Connection) -> None:
    """Make the shipped scopes' rows what `SHIPPED` says; writes nothing when they already are."""
    rows = insert(Scope).values(
        [{"name": name, "description": text} for name, text in SHIPPED.items()]
    )
    connection.execute(
        rows.on_conflict_do_update(
            index_elements=[Scope.name],
            set_={"description": rows.excluded.description},
            where=Scope.description.is_distinct_from(rows.excluded.description),
        )
    )
