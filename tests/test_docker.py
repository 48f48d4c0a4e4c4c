"""`docker compose up`, for real: each test in a Compose project and on a port of its own."""

import os
import shlex
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from app.settings import PROJECT, Settings
from tests.documents import Document, readme_is_true_of
from tests.factories import PASSWORD
from tests.processes import eventually, free_port
from tests.servers import docker_answers

COMPOSE_FILE = PROJECT / "docker-compose.yml"
DECIDED_BY_COMPOSE = {"environment", "host", "port", "home", "database_password"}
SECRETS = ("service/secret_keys", "database/password", "admin/password")


@dataclass(frozen=True)
class Project:
    """A Compose project: its containers, volumes and images, and what its user has set."""

    name: str
    port: int
    settings: dict[str, str] = field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        # No .env and no override file of whoever runs the tests.
        compose = ["docker", "compose", "--ansi", "never", "--project-name", self.name]
        return [*compose, "--file", str(COMPOSE_FILE), "--env-file", os.devnull, *arguments]

    def environment(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SCOPEGATE_", "COMPOSE_"))
        }
        return inherited | {"SCOPEGATE_PORT": str(self.port)} | self.settings

    def compose(self, *arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    def paste(self, document: str, heading: str, *, cwd: Path) -> None:
        """Run a document's commands under a heading, as a reader does it, for this project."""
        for block in Document(document).blocks("sh"):
            if block.elsewhere and block.heading == heading:
                text = block.text.replace("docker compose", shlex.join(self.command()))
                subprocess.run(
                    ["sh", "-ec", text], cwd=cwd, env=self.environment(), check=True, timeout=600
                )

    def up(self) -> None:
        self.compose("up", "--build", "--wait")

    def scopegate(self, *arguments: str, stdin: str = "") -> str:
        return self.compose("exec", "-T", "api", "scopegate", *arguments, stdin=stdin)

    def secrets(self) -> list[str]:
        return self.compose("run", "--rm", "secrets", "cat", *SECRETS).split()

    def client(self, username: str, password: str) -> httpx2.Client:
        """A client that has logged in."""
        url = f"http://127.0.0.1:{self.port}"
        form = {"username": username, "password": password}
        answer = httpx2.post(f"{url}/token", data=form, trust_env=False)
        assert answer.status_code == 200, answer.text
        bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        return httpx2.Client(base_url=url, headers=bearer, trust_env=False)


@pytest.fixture
def project() -> Iterator[Project]:
    if not docker_answers():
        reason = "no Docker engine answers here, so docker compose is not tried"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    project = Project(f"scopegate-test-{uuid.uuid4().hex[:8]}", free_port())
    yield project
    # pytest shows it when a test fails.
    print(project.compose("logs"))
    project.compose("down", "--volumes", "--rmi", "local")


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
        assert "Scopegate: serving at" in logs
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
        f"http://127.0.0.1:{project.port}",
        scopegate=shlex.join(project.command("exec", "-T", "api", "scopegate")),
        env=project.environment(),
    )
    assert project.compose("run", "--rm", "secrets", "find", "admin", "-type", "f") == ""
    assert project.compose("exec", "-T", "db", "ls", "/run/scopegate").split() == ["database"]


def test_every_setting_can_be_set_with_compose() -> None:
    compose = COMPOSE_FILE.read_text()
    names = Settings.model_fields.keys() - DECIDED_BY_COMPOSE
    assert {name for name in names if f" SCOPEGATE_{name.upper()}:" not in compose} == set()
