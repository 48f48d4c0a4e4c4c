"""The schema's version: where the database stands, and where this code needs it.

Asked without Alembic, whose imports would take 7 MiB of every serving process.
"""

import ast
import re
from functools import cache
from itertools import chain
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.settings import MIGRATIONS

VERSIONS = MIGRATIONS / "versions"

_NAMES = re.compile(r"^(revision|down_revision)\b.*? = (.+)$", re.MULTILINE)


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
    if not await connection.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL")):
        return None
    revision: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision
