"""A database that belongs to another project is told as such, and stays as it is."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, STDOUT

import pytest

from tests.conftest import SECRET
from tests.support.commands import Environment, scopegate
from tests.support.postgres_programs import psql

VERSION = "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);"
USERS = "CREATE TABLE users (id integer PRIMARY KEY, email text);"
SESSIONS = "CREATE TABLE sessions (id integer PRIMARY KEY);"
PROJECTS = {
    # Alembic's own random names, and numbers like ours, early, at the head and beyond.
    VERSION + USERS + "INSERT INTO alembic_version VALUES ('4f1c8e0b9a7d')": "4f1c8e0b9a7d",
    VERSION + "INSERT INTO alembic_version VALUES ('0001')": "0001",
    VERSION + USERS + "INSERT INTO alembic_version VALUES ('0010')": "0010",
    VERSION + USERS + SESSIONS + "INSERT INTO alembic_version VALUES ('0042')": "0042",
    # No Alembic at all.
    USERS + SESSIONS: "by its tables",
    VERSION + USERS: "by its tables",
}
EVERYTHING = """
SELECT md5(string_agg(concat_ws(' ', n.nspname, c.relname, c.oid, a.attname, a.atttypid), ','
    ORDER BY c.oid, a.attnum)), (SELECT count(*) FROM pg_proc), (SELECT count(*) FROM pg_trigger)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid
WHERE n.nspname NOT LIKE 'pg_toast%'
"""


@pytest.mark.parametrize("project", PROJECTS)
async def test_another_projects_database_is_told_and_not_changed(
    empty_database_url: str, monkeypatch: Environment, project: str
) -> None:
    assert psql(empty_database_url, project).returncode == 0
    before = psql(empty_database_url, EVERYTHING).stdout
    monkeypatch.setenv("SCOPEGATE_DATABASE_URL", empty_database_url)
    monkeypatch.setenv("SCOPEGATE_SECRET_KEYS", SECRET)
    for command in (["migrate", "--first-admin"], ["user", "list"], ["key", "rotate"]):
        refused = await scopegate(*command)
        assert refused.exit_code == 1
        assert "belongs to another project" in str(refused.exception)
        assert PROJECTS[project] in str(refused.exception)
    findings = json.loads((await scopegate("doctor", "--json")).stdout)
    (wrong,) = [each for each in findings if each["state"] == "wrong"]
    assert wrong["check"] == "schema"
    assert "belongs to another project" in wrong["found"]
    assert psql(empty_database_url, EVERYTHING).stdout == before
    assert psql(empty_database_url, EVERYTHING).returncode == 0


@pytest.mark.system
async def test_alembic_itself_refuses_it_too(empty_database_url: str) -> None:
    project = next(iter(PROJECTS))
    assert psql(empty_database_url, project).returncode == 0
    before = psql(empty_database_url, EVERYTHING).stdout
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "alembic", "upgrade", "head"),
        env={**os.environ, "SCOPEGATE_DATABASE_URL": empty_database_url},
        stdout=PIPE,
        stderr=STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode != 0
    assert "belongs to another project" in output.decode()
    assert psql(empty_database_url, EVERYTHING).stdout == before
