"""The schema's version: where the database stands, and where this code needs it.

Asked without Alembic, which would be an eighth of what a serving process holds in memory.
"""

from functools import cache
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

PROJECT = Path(__file__).resolve().parents[2]


@cache
def revisions() -> tuple[str, ...]:
    """The revisions of this code's migrations, the first one first: their files' names say them."""
    files = (PROJECT / "migrations" / "versions").glob("*_*.py")
    return tuple(sorted(file.name.partition("_")[0] for file in files))


def head_revision() -> str:
    """The revision that this code expects."""
    return revisions()[-1]


def is_behind(revision: str | None) -> bool:
    """Whether a database at this revision lacks something that this code needs.

    One that this code does not know is of a later version, which keeps what we need: while
    replicas are upgraded one by one, the old ones serve on.
    """
    return revision is None or revision in revisions()[:-1]


async def current_revision(connection: AsyncConnection) -> str | None:
    """The revision that the database is at; None when it was never migrated."""
    if not await connection.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL")):
        return None
    revision: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision
