"""Bringing the schema up to this version, by Alembic: only those who migrate need that."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import sqlstate_of
from app.db.schema import current_revision, head_revision, migrations
from app.db.triggers import restore_triggers
from app.errors import ScopegateError
from app.settings import MIGRATIONS, Settings

MIGRATION_TIMEOUT = timedelta(minutes=10)
SAID_BY_MIGRATION = {"P0001", "55P03", "40P01"}
"""The SQLSTATEs of RAISE EXCEPTION, of a lock that is not given, and of a deadlock."""


class CannotMigrate(ScopegateError):
    """There are no migrations from the database's revision, or something is in their way."""


def alembic_config() -> Config:
    """Return Alembic's configuration, which needs no `alembic.ini`: a wheel has none."""
    config = Config()
    # In Alembic's options a % begins a reference to another option.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


async def upgrade(engine: AsyncEngine, revision: str = "head") -> None:
    """Bring the database up to a later revision. Several may call at once: one works, others wait.

    Each migration is a transaction of its own, so that requests wait only for the locks of one. An
    empty database gets all of them in one. Raises CannotMigrate.
    """
    with _explained():
        async with engine.connect() as connection:
            current = await current_revision(connection)
        for each in _steps(current, revision):
            async with engine.begin() as connection:
                await connection.run_sync(upgrade_within, each)


def upgrade_within(connection: Connection, revision: str) -> None:
    """Bring the database up to a revision, in the transaction of this connection."""
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


@contextmanager
def _explained() -> Iterator[None]:
    """Raise CannotMigrate for what a migration says itself, or Alembic."""
    try:
        yield
    except CommandError as error:
        raise CannotMigrate(f"the database can't be migrated by this version: {error}") from error
    except DBAPIError as error:
        if sqlstate_of(error) not in SAID_BY_MIGRATION:
            raise
        raise CannotMigrate(str(error.orig)) from None


def _steps(current: str | None, target: str) -> list[str]:
    """The revisions to go to in turn. With nothing left to migrate, `env.py` puts the scopes."""
    # Where it is empty, or not ours, `migrations/env.py` decides.
    if current not in migrations():
        return [target]
    scripts = ScriptDirectory.from_config(alembic_config()).walk_revisions(current, target)
    newest_first = [each.revision for each in scripts if each.revision != current]
    return [*reversed(newest_first), target]


async def restore(engine: AsyncEngine) -> None:
    """Put back every trigger that is missing, off or altered, in a database at this version.

    Raises CannotMigrate.
    """
    with _explained():
        async with engine.begin() as connection:
            if await current_revision(connection) == head_revision():
                await connection.run_sync(restore_triggers)


def migrator_settings(settings: Settings) -> Settings:
    """The settings for a migrator: it waits for other migrators, and its statements are long."""
    return settings.model_copy(update={"database_statement_timeout": MIGRATION_TIMEOUT})
