"""The schema's version: where the database stands, and where this code needs it.

Asked without Alembic, whose imports would take 7 MiB of every serving process.
"""

import ast
import re
from functools import cache
from itertools import chain
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import ConfigurationError
from app.settings import MIGRATIONS

VERSIONS = MIGRATIONS / "versions"

OURS = frozenset({"users", "scopes", "grants", "signing_keys"})
"""Tables since the first migration: every version keeps them."""

_NAMES = re.compile(r"^(revision|down_revision)\b.*? = (.+)$", re.MULTILINE)


class ForeignDatabase(ConfigurationError):
    """The schema holds another project's tables."""

    def __init__(self, revision: str | None) -> None:
        whose = f"at its Alembic revision {revision}" if revision else "by its tables"
        super().__init__(
            f"the database belongs to another project ({whose}) and stays as it is: give Scopegate "
            "a database of its own, or a schema by search_path=NAME in SCOPEGATE_DATABASE_URL"
        )


@cache
def migrations(folder: Path = VERSIONS) -> dict[str, tuple[str, ...]]:
    """Each migration's revision, and those that it leads on from: one, none, or several."""
    found = {}
    for file in folder.glob("*.py"):
        names = {name: ast.literal_eval(value) for name, value in _NAMES.findall(file.read_text())}
        before = names["down_revision"] or ()
        found[names["revision"]] = (before,) if isinstance(before, str) else tuple(before)
    return found


def head_revision() -> str:
    """The revision that this code expects."""
    (head,) = migrations().keys() - earlier_revisions()
    return head


def earlier_revisions(folder: Path = VERSIONS) -> frozenset[str]:
    """The revisions that this code's migrations have left behind."""
    return frozenset(chain.from_iterable(migrations(folder).values()))


def is_behind(revision: str | None) -> bool:
    """Whether a database at this revision lacks something that this code needs.

    One that this code does not know is of a later version, which keeps what we need: while
    replicas are upgraded one by one, the old ones serve on.
    """
    return revision is None or revision in earlier_revisions()


async def current_revision(connection: AsyncConnection) -> str | None:
    """The revision that the database is at; None when it was never migrated."""
    # Not what comes later in the search path: that may be another project's.
    own = "SELECT to_regclass(quote_ident(current_schema()) || '.alembic_version') IS NOT NULL"
    if not await connection.scalar(text(own)):
        return None
    revision: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def refuse_foreign(connection: Connection) -> None:
    """Return only for a schema that is Scopegate's or to become so. Raises ForeignDatabase."""
    in_schema = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    tables = set(connection.scalars(text(in_schema)))
    revision = None
    if "alembic_version" in tables:
        revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
    ours = OURS & tables
    if ours != OURS if revision else ours:
        raise ForeignDatabase(revision)
