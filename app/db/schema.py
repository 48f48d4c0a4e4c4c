"""The schema's version: bringing the database up to it, and asking where the database stands."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.settings import Settings

MIGRATION_TIMEOUT = 600.0
"""Seconds."""

PROJECT = Path(__file__).resolve().parents[2]


def alembic_config() -> Config:
    """Alembic's configuration, found beside the code, wherever the command is run."""
    return Config(PROJECT / "alembic.ini")


@cache
def head_revision() -> str | None:
    """The revision that this code expects."""
    return _scripts().get_current_head()


@cache
def earlier_revisions() -> frozenset[str]:
    """The revisions that this code's migrations have left behind."""
    return frozenset(script.revision for script in _scripts().walk_revisions()) - {head_revision()}


def is_behind(revision: str | None) -> bool:
    """Whether a database at this revision lacks something that this code needs.

    One that this code does not know is of a later version, which keeps what we need: while
    replicas are upgraded one by one, the old ones serve on.
    """
    return revision is None or revision in earlier_revisions()


async def current_revision(connection: AsyncConnection) -> str | None:
    """The revision that the database is at; None when it was never migrated."""
    return await connection.run_sync(
        lambda sync: MigrationContext.configure(sync).get_current_revision()
    )


async def upgrade(engine: AsyncEngine, revision: str = "head") -> None:
    """Bring the database up to a revision. Several may call at once: one works, the rest wait."""

    def run(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    async with engine.begin() as connection:
        await connection.run_sync(run)


def migrator_settings(settings: Settings) -> Settings:
    """The settings for a migrator: it waits for other migrators, and its statements are long."""
    return settings.model_copy(update={"database_statement_timeout": MIGRATION_TIMEOUT})


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(alembic_config())
