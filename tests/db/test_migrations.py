"""Migrations: up, down, up again; alone and in a race; and what they leave is what models say."""

import asyncio
import os
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.access.models import Scope
from app.access.scopes import SHIPPED
from app.db import migrating
from app.db.engine import create_engine, open_engine
from app.db.migrating import CannotMigrate, alembic_config, migrator_settings, upgrade
from app.db.schema import (
    current_revision,
    earlier_revisions,
    head_revision,
    migrations,
)
from app.db.url import normalise_url
from app.settings import MIGRATIONS, PROJECT
from tests.conftest import settings_for
from tests.support.processes import PATIENCE


@pytest.fixture
async def engine(empty_database_url: str) -> AsyncEngine:
    return create_engine(normalise_url(empty_database_url), settings_for(empty_database_url))


async def alembic(engine: AsyncEngine, name: str, *args: str) -> None:
    def run(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        getattr(command, name)(config, *args)

    async with engine.begin() as connection:
        await connection.run_sync(run)


async def test_up_down_and_up_again_and_the_models_agree(engine: AsyncEngine) -> None:
    for _ in range(2):
        await upgrade(engine)
        await alembic(engine, "check")
        await alembic(engine, "downgrade", "base")
        async with engine.connect() as connection:
            tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
            assert await connection.scalar(text(tables)) == 1, "alembic_version alone stays"
            assert await connection.scalar(text("SELECT count(*) FROM pg_trigger")) == 0
    await engine.dispose()


def test_what_is_read_in_the_migrations_is_what_alembic_reads(tmp_path: Path) -> None:
    """Also in those that Alembic drafts for whoever adds a table of their own."""
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    config = Config(PROJECT / "alembic.ini")
    config.set_main_option("script_location", str(folder))
    for message in ("reports", "more reports"):
        command.revision(config, message)
    command.revision(config, "a branch", head="0006", splice=True)
    command.merge(config, "heads")
    scripts = ScriptDirectory.from_config(config)
    everything = {script.revision for script in scripts.walk_revisions()}
    assert len(everything) > len(migrations())
    assert migrations(folder / "versions").keys() == everything
    assert everything - earlier_revisions(folder / "versions") == {scripts.get_current_head()}
    assert head_revision() == ScriptDirectory.from_config(alembic_config()).get_current_head()


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("ROW EXCLUSIVE", "sessions, users: in use, run it again"),
        (
            "SHARE UPDATE EXCLUSIVE",
            "sessions, users: VACUUM, CREATE INDEX or ALTER TABLE is at work, "
            "run it again after it",
        ),
    ],
)
async def test_a_migration_that_gets_no_lock_says_what_to_do(
    empty_database_url: str, mode: str, why: str
) -> None:
    async with open_engine(migrator_settings(settings_for(empty_database_url))) as engine:
        await upgrade(engine, "0018")
        async with engine.connect() as other:
            await other.execute(text(f"LOCK TABLE users IN {mode} MODE"))
            with pytest.raises(CannotMigrate) as refused:
                await upgrade(engine)
        assert str(refused.value) == why
        await upgrade(engine)


@pytest.mark.system
@pytest.mark.parametrize("begin", [None, "0011"], ids=["an empty database", "an older one"])
async def test_replicas_may_migrate_at_once(
    engine: AsyncEngine, empty_database_url: str, begin: str | None
) -> None:
    if begin is not None:
        await upgrade(engine, begin)
    environment = {**os.environ, "SCOPEGATE_DATABASE_URL": empty_database_url}
    replicas = [
        await asyncio.create_subprocess_exec(
            sys.executable, *command, env=environment, stdout=PIPE, stderr=STDOUT
        )
        # Both ways to migrate take the same lock.
        for command in [("-m", "app", "migrate"), ("-m", "alembic", "upgrade", "head")] * 2
    ]
    for replica in replicas:
        output, _ = await replica.communicate()
        assert replica.returncode == 0, output.decode()
    async with engine.connect() as connection:
        assert await current_revision(connection) == head_revision()
        assert await connection.scalar(text("SELECT count(*) FROM scopes")) == len(SHIPPED)
    await engine.dispose()


async def test_a_database_of_a_later_version_is_left_as_it_is(engine: AsyncEngine) -> None:
    await upgrade(engine)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(CannotMigrate, match=r"can't be migrated by this version: .*'9999'"):
        await upgrade(engine)
    await engine.dispose()


async def test_shipped_scopes_are_put_back_by_every_migration(engine: AsyncEngine) -> None:
    await upgrade(engine)
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM scopes WHERE name = 'introspect'"))
        await connection.execute(text("UPDATE scopes SET description = 'old'"))
        await connection.execute(text("INSERT INTO scopes VALUES ('x:y', 'another service')"))
    await upgrade(engine)
    async with engine.connect() as connection:
        rows = {row.name: row.description for row in await connection.execute(select(Scope))}
    assert rows == {**SHIPPED, "x:y": "another service"}
    await engine.dispose()


async def test_a_migration_does_not_wait_long_on_a_lock(engine: AsyncEngine) -> None:
    await upgrade(engine)
    async with engine.connect() as connection:
        seen: list[object] = []

        def ask(sync: Connection) -> None:
            config = alembic_config()
            config.attributes["connection"] = sync
            command.upgrade(config, "head")
            seen.append(sync.scalar(text("SHOW lock_timeout")))

        async with connection.begin():
            await connection.run_sync(ask)
    assert seen == ["5s"]
    await engine.dispose()


async def test_each_migration_ends_by_itself_so_that_one_that_fails_undoes_no_other(
    engine: AsyncEngine,
) -> None:
    await upgrade(engine, "0012")
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO users (id, username, username_key, kind) VALUES "
                "(gen_random_uuid(), 'Scopegate-Docs', 'scopegate-docs', 'service')"
            )
        )
    with pytest.raises(CannotMigrate, match="Scopegate-Docs"):
        await upgrade(engine)
    async with engine.connect() as connection:
        assert await current_revision(connection) == "0014"
    await engine.dispose()


async def test_a_scope_that_another_changes_holds_up_no_request(
    empty_database_url: str,
) -> None:
    """Shipped scopes are put back without the locks of the migrations before."""
    async with open_engine(migrator_settings(settings_for(empty_database_url))) as engine:
        await upgrade(engine, "0018")
        async with engine.connect() as other:
            await other.execute(text("INSERT INTO scopes VALUES ('admin', 'x')"))
            task = asyncio.create_task(upgrade(engine))
            waits = (
                "SELECT EXISTS (SELECT FROM pg_locks "
                "WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))"
            )
            async with asyncio.timeout(PATIENCE):
                while not await other.scalar(text(waits)):
                    assert not task.done()
            await other.execute(text("SET LOCAL lock_timeout = '100ms'"))
            await other.execute(text("LOCK TABLE sessions, users IN ROW EXCLUSIVE MODE"))
            await other.commit()
            await task


async def test_branches_that_were_merged_are_migrated_in_one_run(
    engine: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await upgrade(engine, "0017")
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    config = Config(PROJECT / "alembic.ini")
    config.set_main_option("script_location", str(folder))
    command.revision(config, "a branch", head="0018", splice=True)
    merged = command.merge(config, "heads")
    assert isinstance(merged, Script)
    monkeypatch.setattr(migrating, "alembic_config", lambda: config)
    await upgrade(engine)
    async with engine.connect() as connection:
        assert await current_revision(connection) == merged.revision
    await engine.dispose()


async def test_scopes_that_are_openid_connects_now_stop_the_migration_with_a_clear_line(
    engine: AsyncEngine,
) -> None:
    """A service that asks for one would take tokens of applications that hold no grant for it."""
    await upgrade(engine, "0012")
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO scopes VALUES ('email', 'Send e-mail')"))
    with pytest.raises(CannotMigrate, match=r"^every client may .* for services: email\. Register"):
        await upgrade(engine)
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM scopes WHERE name = 'email'"))
    await upgrade(engine)
    await engine.dispose()


@pytest.mark.parametrize(
    ("taken", "freed"),
    [
        (
            "INSERT INTO users (id, username, username_key, kind) VALUES "
            "(gen_random_uuid(), 'Scopegate-Docs', 'scopegate-docs', 'service')",
            "DELETE FROM users",
        ),
        (
            "INSERT INTO clients (id, client_id, name, redirect_uris, post_logout_redirect_uris, "
            "trusted, id_token_signed_response_alg) VALUES "
            "(gen_random_uuid(), 'Scopegate-Docs', 'x', '{}', '{}', false, 'RS256')",
            "UPDATE clients SET deleted_at = now()",
        ),
    ],
)
async def test_an_id_that_a_shipped_client_has_now_stops_the_migration_with_a_clear_line(
    engine: AsyncEngine, taken: str, freed: str
) -> None:
    await upgrade(engine, "0014")
    async with engine.begin() as connection:
        await connection.execute(text(taken))
    with pytest.raises(CannotMigrate, match=r"others have their ids: Scopegate-Docs\. Rename"):
        await upgrade(engine)
    async with engine.begin() as connection:
        await connection.execute(text(freed))
    await upgrade(engine)
    await engine.dispose()
