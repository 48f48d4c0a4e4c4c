"""A schema of Scopegate's own, in a database that it shares with other projects."""

import asyncio
import json
from collections.abc import Callable

import pytest
from sqlalchemy import make_url

from app.access.grants import revoke
from app.db.engine import create_engine
from app.db.migrating import upgrade
from app.db.url import normalise_url
from app.runtime import Runtime
from tests.conftest import SECRET, client_of, following, settings_for
from tests.support.commands import Environment, scopegate, succeed
from tests.support.factories import OPERATOR, bearer, make_user, status
from tests.support.postgres_programs import psql
from tests.support.processes import PATIENCE

ANOTHER_PROJECT = """
CREATE SCHEMA auth;
CREATE TABLE public.alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO public.alembic_version VALUES ('4f1c8e0b9a7d');
CREATE TABLE public.users (id integer PRIMARY KEY);
CREATE TABLE public.sessions (id integer PRIMARY KEY);
"""


def with_option(name: str, value: str) -> Callable[[str], str]:
    """Name the schema in the URL."""

    def change(url: str) -> str:
        given = make_url(url).update_query_dict({name: value})
        return given.render_as_string(hide_password=False)

    return change


def by_the_database(url: str) -> str:
    """Leave the URL as it is, and have the database name the schema."""
    database = make_url(url).database
    assert psql(url, f'ALTER DATABASE "{database}" SET search_path = auth').returncode == 0
    return url


@pytest.mark.parametrize(
    "name_schema",
    [
        with_option("search_path", "auth"),
        with_option("search_path", "auth,public"),
        with_option("options", "-c search_path=auth"),
        with_option("options", "-csearch_path=auth,public"),
        by_the_database,
    ],
)
async def test_all_is_in_the_schema_that_the_url_or_the_database_names(
    empty_database_url: str, monkeypatch: Environment, name_schema: Callable[[str], str]
) -> None:
    done = psql(empty_database_url, ANOTHER_PROJECT)
    assert done.returncode == 0, done.stderr
    url = name_schema(empty_database_url)
    monkeypatch.setenv("SCOPEGATE_DATABASE_URL", url)
    monkeypatch.setenv("SCOPEGATE_SECRET_KEYS", SECRET)
    for _ in range(2):
        await succeed("migrate", "--first-admin")
    async with Runtime.open(settings_for(url)) as runtime, following(runtime):
        user = await make_user(runtime, "read:items")
        async with client_of(runtime) as client:
            token = await bearer(client, user)
            assert await status(client, token, "/items") == 200
            async with runtime.work(OPERATOR) as work:
                await revoke(work, user.id, "read:items")
            assert await status(client, token, "/items") == 403
            assert await status(client, {}, "/health/ready") == 200
    findings = json.loads((await scopegate("doctor", "--json")).stdout)
    assert [each for each in findings if each["state"] == "wrong"] == []
    assert ", schema auth" in next(each["found"] for each in findings if "schema" in each["found"])
    tables = "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_tables "
    left = psql(empty_database_url, f"{tables} WHERE schemaname = 'public'").stdout
    assert "alembic_version sessions users" in left
    found = psql(
        empty_database_url, "SELECT 'it is still ' || version_num FROM public.alembic_version"
    )
    assert "it is still 4f1c8e0b9a7d" in found.stdout


async def test_what_another_schemas_sql_changes_is_heard(empty_database_url: str) -> None:
    """An operator's psql need not have the schema in its search path."""
    assert psql(empty_database_url, "CREATE SCHEMA auth").returncode == 0
    url = with_option("search_path", "auth")(empty_database_url)
    engine = create_engine(normalise_url(url), settings_for(url))
    await upgrade(engine)
    await engine.dispose()
    async with Runtime.open(settings_for(url)) as runtime, following(runtime):
        user = await make_user(runtime, "read:items")
        async with client_of(runtime) as client:
            token = await bearer(client, user)
            assert await status(client, token) == 200
            disable = f"UPDATE auth.users SET disabled_at = now() WHERE id = '{user.id}'"
            assert psql(empty_database_url, disable).returncode == 0
            async with asyncio.timeout(PATIENCE):
                while await status(client, token) != 401:
                    await asyncio.sleep(0.005)


@pytest.mark.parametrize("option", ["search_path", "options"])
async def test_a_schema_that_is_not_there_is_said(
    empty_database_url: str, monkeypatch: Environment, option: str
) -> None:
    value = "nowhere" if option == "search_path" else "-c search_path=nowhere"
    monkeypatch.setenv("SCOPEGATE_DATABASE_URL", with_option(option, value)(empty_database_url))
    monkeypatch.setenv("SCOPEGATE_SECRET_KEYS", SECRET)
    findings = json.loads((await scopegate("doctor", "--json")).stdout)
    (wrong,) = [each for each in findings if each["state"] == "wrong"]
    assert wrong["check"] == "database"
    assert "create the schema that search_path names" in wrong["remedy"]
    refused = await scopegate("migrate")
    assert refused.exit_code == 1
    assert "schema" in str(refused.exception)
