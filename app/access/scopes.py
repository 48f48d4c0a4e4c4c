"""Scopes: the ones that ship and the registered ones, and what counts as holding one."""

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from sqlalchemy import Connection, any_, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Scope
from app.db.paging import paginate
from app.errors import InvalidScope, NotFound

ADMIN = "admin"

SHIPPED = {
    "read:items": "Read items",
    "write:items": "Create and change items",
    "read:users": "See users, grants and sessions",
    "write:users": "Create, change and disable users",
    "write:grants": "Grant and revoke scopes",
    "read:clients": "See the clients that sign people in",
    "write:clients": "Register, change and delete clients",
    "read:audit": "Read the audit log",
    "read:events": "Follow security events",
    "introspect": "Ask whether a token is active",
    ADMIN: "Full access",
}
"""The one registry: the migration command makes rows of it, `/docs` lists it."""

OPENID = "openid"
IDENTITY = {
    OPENID: "Know who you are",
    "profile": "See your username",
    "email": "See your e-mail address",
    "offline_access": "Stay signed in while you are away",
}
"""OpenID Connect's. No grants, and no route's but /userinfo's: every client may ask for them."""

# RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E ), one space between.
SCOPE_TOKEN = r"[\x21\x23-\x5B\x5D-\x7E]+"
MAX_SCOPE = 128
"""Characters of a registered scope's name."""
MAX_SCOPES_BYTES = 4 * 1024
"""Of a request's `scope` parameter, which names many."""
_SCOPES = re.compile(r"[\x20\x21\x23-\x5B\x5D-\x7E]+")


class ScopeNotRegistered(NotFound):
    """There is no such scope; its name, where the caller may know it."""

    def __init__(self, *names: str) -> None:
        if waiting := SHIPPED.keys() & set(names):
            super().__init__(
                f"This version ships {', '.join(sorted(waiting))}, but the database does not have "
                "it yet: run scopegate migrate."
            )
            return
        which = f"no scope {', '.join(sorted(names))}" if names else "no such scope"
        super().__init__(f"There is {which}: see the list of scopes.")


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
    if not names:
        raise InvalidScope("The scope is empty: it names no scope.")
    if not _SCOPES.fullmatch(scope):
        raise InvalidScope("The scope has characters that no scope has.")
    return names


def format_scope(scopes: AbstractSet[str]) -> str:
    """The scopes as a token and an answer carry them: one string, always in the same order."""
    return " ".join(sorted(scopes))


def satisfies(held: AbstractSet[str], required: Iterable[str]) -> bool:
    """Whether what is held is enough. `admin` always is, but for the scopes of OpenID Connect."""
    missing = [scope for scope in required if scope not in held]
    return not missing or (ADMIN in held and IDENTITY.keys().isdisjoint(missing))


async def registered_scopes(
    db: AsyncSession, *, after: str | None = None, limit: int | None = None
) -> list[Scope]:
    """The scopes there are, by name: up to `limit` of those after the given one."""
    return await paginate(db, select(Scope), Scope.name, after=after, limit=limit)


async def registered_of(db: AsyncSession, names: AbstractSet[str]) -> frozenset[str]:
    """Those of the names that are registered scopes.

    Never OpenID Connect's, although the previous release may have registered one.
    """
    # One parameter, however many names: a statement has at most 32767.
    asked = literal(list(filter(is_scope_name, names - IDENTITY.keys())))
    known = select(Scope.name).where(Scope.name == any_(asked))
    return frozenset(await db.scalars(known))


async def require_registered(db: AsyncSession, names: AbstractSet[str]) -> None:
    """Return only if all of these are registered scopes. Raises ScopeNotRegistered, naming them."""
    if missing := names - await registered_of(db, names):
        # Names that no scope can have are not repeated: they may contain any text.
        raise ScopeNotRegistered(*filter(is_scope_name, missing))


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
