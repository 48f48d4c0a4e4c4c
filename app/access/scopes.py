"""Scopes: the ones that ship and the registered ones, and what counts as holding one."""

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from datetime import datetime

from sqlalchemy import Connection, any_, delete, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Grant, Scope
from app.access.remarks import check_remark
from app.audit.log import Actor, record
from app.errors import Conflict, InvalidScope, NotFound, Refused

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
SCOPE_TOKEN = r"[\x21\x23-\x5B\x5D-\x7E]+"
MAX_SCOPE = 128
MAX_SCOPES_BYTES = 4 * 1024
"""Of a request's `scope` parameter, which names many."""
_SCOPES = re.compile(r"[\x20\x21\x23-\x5B\x5D-\x7E]+")


class ScopeNotRegistered(NotFound):
    """There is no such scope: these, where whoever asked may be told."""

    def __init__(self, *names: str) -> None:
        which = f"no scope {', '.join(sorted(names))}" if names else "no such scope"
        super().__init__(f"There is {which}: see the list of scopes.")


class ScopeShips(Conflict):
    """The service itself relies on that scope."""

    def __init__(self) -> None:
        super().__init__("This scope ships with Scopegate and stays as it is.")


class ScopeGranted(Conflict):
    """Somebody holds the scope."""

    def __init__(self) -> None:
        super().__init__("This scope is granted: revoke it everywhere first.")


def is_scope_name(name: str) -> bool:
    """Whether it could be the name of a scope at all."""
    return re.fullmatch(SCOPE_TOKEN, name) is not None


def parse_scope(scope: str) -> frozenset[str]:
    """Return the scopes that a request's `scope` parameter names.

    Raises InvalidScope (RFC 6749 §3.3), also when it is longer than MAX_SCOPES_BYTES.
    """
    if len(scope) > MAX_SCOPES_BYTES:
        raise InvalidScope(f"The scope is longer than {MAX_SCOPES_BYTES} bytes: ask for less.")
    # One match for all names: a stranger may send thousands.
    names = frozenset(scope.split(" ")) - {""}
    if not names or not _SCOPES.fullmatch(scope):
        raise InvalidScope("The scope has characters that no scope has.")
    return names


def format_scope(scopes: AbstractSet[str]) -> str:
    """The scopes as a token and an answer carry them: one string, always in the same order."""
    return " ".join(sorted(scopes))


def satisfies(held: AbstractSet[str], required: Iterable[str]) -> bool:
    """Whether what is held is enough; `admin` always is."""
    return ADMIN in held or all(scope in held for scope in required)


async def registered_scopes(
    session: AsyncSession, *, after: str | None = None, limit: int | None = None
) -> list[Scope]:
    """The scopes there are, by name: up to `limit` of those after the given one."""
    statement = select(Scope).order_by(Scope.name).limit(limit)
    if after is not None:
        statement = statement.where(Scope.name > after)
    return list(await session.scalars(statement))


async def registered_of(session: AsyncSession, names: AbstractSet[str]) -> frozenset[str]:
    """Those of the names that are registered scopes."""
    # One parameter, however many names: a statement has at most 32767.
    asked = literal(list(filter(is_scope_name, names)))
    known = select(Scope.name).where(Scope.name == any_(asked))
    return frozenset(await session.scalars(known))


async def require_registered(session: AsyncSession, names: AbstractSet[str]) -> None:
    """Return only if all of these are registered scopes. Raises ScopeNotRegistered, naming them."""
    if missing := names - await registered_of(session, names):
        # What no scope can be called is not repeated: anything could stand in it.
        raise ScopeNotRegistered(*filter(is_scope_name, missing))


async def register_scope(session: AsyncSession, name: str, *, description: str, by: Actor) -> Scope:
    """A scope that can be granted; that alone gives it to nobody. Repeating it changes nothing.

    Raises Refused for a name that can't be granted by its path or an unfit description, or
    ScopeShips.
    """
    # Clients leave "." and ".." out of a path, as RFC 3986 §5.2.4 has it.
    if not is_scope_name(name) or "/" in name or name in {".", ".."} or len(name) > MAX_SCOPE:
        raise Refused(
            f"A scope's name has up to {MAX_SCOPE} of RFC 6749's characters, and no slash; "
            "nor is it one or two dots."
        )
    check_remark(description)
    if name in SHIPPED:
        raise ScopeShips
    statement = (
        insert(Scope)
        .values(name=name, description=description)
        .on_conflict_do_update(
            index_elements=[Scope.name],
            set_={"description": description},
            where=Scope.description != description,
        )
    )
    if await session.scalar(statement.returning(Scope.name)):
        record(session, "scope.registered", by=by, scope=name, description=description)
    return await session.get_one(Scope, name, populate_existing=True)


async def remove_scope(session: AsyncSession, name: str, *, by: Actor, now: datetime) -> None:
    """The scope can be asked for and granted no more.

    Raises ScopeNotRegistered, ScopeShips, or ScopeGranted while somebody holds it.
    """
    if name in SHIPPED:
        raise ScopeShips
    await session.execute(delete(Grant).where(Grant.scope == name, Grant.expires_at <= now))
    try:
        async with session.begin_nested():
            removed = await session.scalar(
                delete(Scope).where(Scope.name == name).returning(Scope.name)
            )
    except IntegrityError:
        raise ScopeGranted from None
    if removed is None:
        raise ScopeNotRegistered
    record(session, "scope.removed", by=by, scope=name)


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
