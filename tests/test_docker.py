"""`docker compose up`, for real: each test in a Compose project and on a port of its own."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import Settings
from tests.compose import COMPOSE_FILE, Project, compose_project
from tests.documents import readme_is_true_of
from tests.factories import PASSWORD
from tests.processes import eventually

DECIDED_BY_COMPOSE = {"environment", "host", "port", "home", "database_password"}


@pytest.fixture
def project() -> Iterator[Project]:
    with compose_project(COMPOSE_FILE) as project:
        yield project


@pytest.mark.docker
def test_with_nothing_set_it_serves_keeps_its_data_and_tells_no_secret(
    project: Project, tmp_path: Path
) -> None:
    project.paste("README.md", "With Docker", cwd=tmp_path)
    secrets = project.secrets()
    assert [len(secret) for secret in secrets] == [43, 43, 43]
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

        project.paste("docs/operating.md", "Backup", cwd=tmp_path)
        assert (tmp_path / "secret_keys").read_text().strip() == secrets[0]
        assert admin.delete(f"/items/{lamp['id']}").status_code == 204
        project.paste("docs/operating.md", "Restore", cwd=tmp_path)
        assert admin.get("/items").json()["items"] == [lamp]


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


def test_every_setting_can_be_set_with_compose() -> None:
    compose = COMPOSE_FILE.read_text()
    names = Settings.model_fields.keys() - DECIDED_BY_COMPOSE
    assert {name for name in names if f" SCOPEGATE_{name.upper()}:" not in compose} == set()
