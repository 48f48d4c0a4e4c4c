"""`docker compose up`, for real: each test in a Compose project and on a port of its own."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import Settings
from tests.support.compose import COMPOSE_FILE, Project, compose_project
from tests.support.documents import readme_is_true_of
from tests.support.factories import PASSWORD
from tests.support.processes import eventually

DECIDED_BY_COMPOSE = {"environment", "host", "port", "home", "database_password"}


@pytest.fixture
def project() -> Iterator[Project]:
    with compose_project(COMPOSE_FILE) as project:
        yield project


@pytest.mark.docker
def test_with_nothing_set_it_serves_keeps_its_data_and_tells_no_secret(
    project: Project, tmp_path: Path
) -> None:
    project.paste("docs/how-to/run-with-docker.md", "Start", cwd=tmp_path)
    secrets = project.secrets()
    assert [len(secret) for secret in secrets] == [43] * 5
    project.scopegate("grant", "alice", "read:items")

    with project.client("admin", secrets[-1]) as admin, project.client("alice", PASSWORD) as alice:
        assert admin.get("/users/me").json()["username"] == "admin"
        lamp = admin.post("/items", json={"title": "Lamp"}).json()
        assert alice.get("/items").status_code == 200
        project.scopegate("revoke", "alice", "read:items")
        eventually(lambda: alice.get("/items").status_code == 403)

        logs = project.compose("logs")
        assert "serving at" in logs
        assert not [secret for secret in (*secrets, PASSWORD) if secret in logs]

        project.compose("down")
        project.up()
        assert admin.get("/items").json()["items"] == [lamp]
        assert alice.get("/items").status_code == 403
        assert project.secrets() == secrets

        project.paste("docs/how-to/back-up-and-restore.md", "Backup", cwd=tmp_path)
        assert (tmp_path / "secret_keys").read_text().strip() == secrets[0]
        assert admin.delete(f"/items/{lamp['id']}").status_code == 204
        project.paste("docs/how-to/back-up-and-restore.md", "Restore", cwd=tmp_path)
        assert admin.get("/items").json()["items"] == [lamp]


AS_SUPERUSER = ("exec", "-T", "db", "psql", "--username", "scopegate", "--set", "ON_ERROR_STOP=1")
# As the release before left it: the superuser owns all, and there is no other role.
AS_BEFORE = """
REASSIGN OWNED BY scopegate_owner TO scopegate;
DROP OWNED BY scopegate_service, scopegate_owner;
DROP ROLE scopegate_service, scopegate_owner;
GRANT ALL ON DATABASE scopegate TO PUBLIC;
"""
MAY_NOT = [
    "ALTER TABLE audit_entries DISABLE TRIGGER ALL",
    "TRUNCATE audit_entries",
    "UPDATE audit_entries SET actor = NULL",
    "DELETE FROM audit_entries",
    "SET session_replication_role = replica",
    "CREATE TABLE made (n int)",
    "DROP TABLE items",
    "UPDATE alembic_version SET version_num = '0001'",
    "COPY items TO PROGRAM 'cat'",
    "SELECT pg_read_file('/etc/passwd')",
    "SET ROLE scopegate_owner",
]
RUN_SQL = """
import asyncio, sys
from sqlalchemy import text
from app.db.engine import open_engine
from app.settings import Settings
async def run():
    async with open_engine(Settings()) as engine, engine.begin() as connection:
        result = await connection.execute(text(sys.argv[1]))
        print(result.scalar() if result.returns_rows else "done")
asyncio.run(run())
"""


def by_the_service(project: Project, statement: str) -> str:
    """What becomes of a statement by the role that serves."""
    command = project.command("exec", "-T", "api", "python", "-c", RUN_SQL, statement)
    done = subprocess.run(command, env=project.environment(), capture_output=True, text=True)
    return done.stdout.strip() or done.stderr


@pytest.mark.docker
def test_the_service_is_no_owner_and_data_of_the_release_before_gets_one(project: Project) -> None:
    project.settings["SCOPEGATE_ADMIN_PASSWORD"] = PASSWORD
    project.up()
    with project.client("admin", PASSWORD) as admin:
        lamp = admin.post("/items", json={"title": "Lamp"}).json()
        project.compose("stop", "api")
        project.compose(*AS_SUPERUSER, stdin=AS_BEFORE)
        project.up()
        assert admin.get("/items").json()["items"] == [lamp]
    assert by_the_service(project, "SELECT current_user") == "scopegate_service"
    for role in ("scopegate_service", "scopegate_owner"):
        asked = f"SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = '{role}'"
        assert by_the_service(project, asked) == "False"
    for statement in MAY_NOT:
        refused = by_the_service(project, statement)
        assert re.search("permission denied|must be owner|append-only|days", refused), refused
    assert "wrong" not in project.scopegate("doctor")
    seen = project.compose("exec", "-T", "api", "find", "/run/scopegate", "-type", "f").split()
    assert sorted(seen) == [
        "/run/scopegate/service-role/password",
        "/run/scopegate/service/secret_keys",
    ]


@pytest.mark.docker
def test_with_a_password_set_each_container_sees_only_what_it_needs(project: Project) -> None:
    project.settings["SCOPEGATE_ADMIN_PASSWORD"] = PASSWORD
    project.settings["SCOPEGATE_SIGNING_ALGORITHM"] = "EdDSA"
    project.up()
    with project.client("admin", PASSWORD) as admin:
        assert admin.get("/.well-known/jwks.json").json()["keys"][0]["alg"] == "EdDSA"
    assert project.compose("exec", "-T", "api", "id", "--user").strip() == "10001"
    assert PASSWORD not in project.compose("exec", "-T", "api", "env")
    readme_is_true_of(
        project.url,
        scopegate=shlex.join(project.command("exec", "-T", "api", "scopegate")),
        env=project.environment(),
    )
    assert project.compose("run", "--rm", "secrets", "find", "admin", "-type", "f") == ""
    assert project.compose("exec", "-T", "db", "ls", "/run/scopegate").split() == ["database"]


@pytest.mark.docker
def test_one_image_is_built_and_the_first_password_says_when_it_no_longer_counts(
    project: Project,
) -> None:
    built = project.compose("build", "--progress", "plain")
    project.up()
    images = project.compose("ps", "--all", "--format", "{{.Service}} {{.Image}}").split("\n")
    used = dict(line.split() for line in images if line)
    assert used["api"] == used["migrate"] == used["secrets"] == f"{project.name}-secrets"
    there = project.run("docker", "images", "--format", "{{.Repository}}").split()
    assert [name for name in there if name.startswith(project.name)] == [used["api"]], built

    def first_password() -> str:
        return project.compose("run", "--rm", "secrets", "cat", "admin/password").strip()

    password = first_password()
    project.up()
    assert first_password() == password
    project.login("admin", password)
    project.scopegate("user", "password", "admin", stdin=PASSWORD)
    project.up()
    assert "admin no longer has the password that was here" in first_password()
    project.login("admin", PASSWORD)


IS_COMPILED = "import app.main, os; print(os.path.exists(app.main.__cached__))"


@pytest.mark.docker
def test_the_image_s_code_is_compiled_already(project: Project) -> None:
    """A container can't write there: it would compile all of it at each start and each command."""
    project.compose("build")
    assert project.compose("run", "--rm", "secrets", "python", "-c", IS_COMPILED) == "True\n"


def test_every_setting_can_be_set_with_compose() -> None:
    compose = COMPOSE_FILE.read_text()
    names = Settings.model_fields.keys() - DECIDED_BY_COMPOSE
    assert {name for name in names if f" SCOPEGATE_{name.upper()}:" not in compose} == set()
