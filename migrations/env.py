"""How Alembic meets our database: async, one migrator at a time, never waiting long on a lock."""

import asyncio
from collections.abc import Iterable
from functools import partial
from importlib import import_module
from pathlib import Path

from alembic import context
from alembic.operations import MigrationScript
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, func, select, text
from sqlalchemy.ext.asyncio import async_sessionmaker

import app
from app.access.scopes import put_shipped_scopes
from app.db.base import Base
from app.db.engine import open_engine
from app.db.locks import Lock
from app.db.migrating import migrator_settings
from app.db.schema import refuse_foreign
from app.identity.users import fill_in_all_skeletons
from app.settings import Settings

# Each import puts a package's tables into the metadata.
for models in sorted(Path(app.__path__[0]).glob("*/models.py")):
    import_module(f"app.{models.parent.name}.models")


def number(
    context: MigrationContext,
    revision: str | Iterable[str | None],  # noqa: ARG001 - Alembic calls with these three
    directives: list[MigrationScript],
) -> None:
    """Give a new migration the number after the last one, unless `--rev-id` gives another."""
    assert context.config
    assert context.script
    if getattr(context.config.cmd_opts, "rev_id", None) is None:
        names = [each.revision for each in context.script.walk_revisions()]
        last = max(int(name) for name in names if name.isdecimal())
        for directive in directives:
            directive.rev_id = f"{last + 1:04}"


def run(connection: Connection, *, whole: bool = False) -> bool:
    """Migrate under a lock; return whether the database is at the head.

    There it adds the shipped scopes, but not while a migration's locks hold up requests: another
    transaction may hold a scope's row for long. `app.db.migrating` comes once more, for them.
    `whole`: no one comes after this.
    """
    schema = connection.scalar(select(func.current_schema()))
    context.configure(
        connection=connection,
        # Of that schema alone: what comes after it in the search path may be another project's.
        version_table_schema=None if schema == "public" else schema,
        target_metadata=Base.metadata,
        compare_server_default=True,
        process_revision_directives=number,
    )
    with context.begin_transaction():
        connection.execute(select(func.pg_advisory_xact_lock(Lock.MIGRATION.value)))
        # A migration that waits on a lock makes every query behind it wait too: rather give up.
        connection.execute(text("SET LOCAL lock_timeout = '5s'"))
        connection.execute(text("SET LOCAL statement_timeout = '10min'"))
        refuse_foreign(connection)
        before = set(context.get_context().get_current_heads())
        context.run_migrations()
        after = set(context.get_context().get_current_heads())
        at_head = after == set(context.script.get_heads())
        if at_head and (whole or before == after or not before):
            put_shipped_scopes(connection)
    return at_head


async def run_with_own_engine() -> None:
    async with open_engine(migrator_settings(Settings()), creating=True) as engine:
        async with engine.begin() as connection:
            at_head = await connection.run_sync(partial(run, whole=True))
        if at_head:
            await fill_in_all_skeletons(async_sessionmaker(engine))


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
elif (given := context.config.attributes.get("connection")) is not None:
    run(given)
else:
    asyncio.run(run_with_own_engine())
