"""`docker compose`, driven as its user does: a project of the test's own, on a port of its own."""

import os
import shlex
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from app.settings import PROJECT
from tests.support.documents import Document
from tests.support.processes import PATIENCE, free_port
from tests.support.servers import docker_answers

COMPOSE_FILE = PROJECT / "docker-compose.yml"
SCALE_FILE = PROJECT / "docker-compose.scale.yml"
SECRETS = (
    "service/secret_keys",
    "database/password",
    "owner-role/password",
    "service-role/password",
    "admin/password",
)


@dataclass(frozen=True)
class Project:
    """A Compose project: its containers, volumes and images, and what its user has set."""

    name: str
    port: int
    files: tuple[Path, ...]
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where the service is, seen from this machine."""
        return f"http://127.0.0.1:{self.port}"

    def command(self, *arguments: str) -> list[str]:
        # No .env and no override file of whoever runs the tests.
        compose = ["docker", "compose", "--ansi", "never", "--project-name", self.name]
        files = [word for file in self.files for word in ("--file", str(file))]
        return [*compose, *files, "--env-file", os.devnull, *arguments]

    def environment(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SCOPEGATE_", "COMPOSE_"))
        }
        return inherited | {"SCOPEGATE_PORT": str(self.port)} | self.settings

    def compose(self, *arguments: str, stdin: str = "") -> str:
        return self.run(*self.command(*arguments), stdin=stdin)

    def run(self, *command: str, stdin: str = "") -> str:
        """What a command prints; it must succeed."""
        done = subprocess.run(
            command,
            input=stdin,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def paste(self, document: str, heading: str, *, cwd: Path) -> None:
        """Run a document's commands under a heading, as a reader does it, for this project."""
        for block in Document(document).blocks("sh"):
            if block.elsewhere and block.heading == heading:
                text = block.text.replace("docker compose", shlex.join(self.command()))
                subprocess.run(
                    ["sh", "-ec", text], cwd=cwd, env=self.environment(), check=True, timeout=600
                )

    def up(self, *options: str) -> None:
        self.compose("up", "--build", "--wait", *options)

    def scopegate(self, *arguments: str, stdin: str = "") -> str:
        return self.compose("exec", "-T", "api", "scopegate", *arguments, stdin=stdin)

    def secrets(self) -> list[str]:
        return self.compose("run", "--rm", "secrets", "cat", *SECRETS).split()

    def login(self, username: str, password: str, headers: Mapping[str, str] = {}) -> str:
        """A token of this user's."""
        form = {"username": username, "password": password}
        token_url = f"{self.url}/token"
        answer = httpx2.post(
            token_url, data=form, headers=headers, timeout=PATIENCE, trust_env=False
        )
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token

    def client(self, username: str, password: str) -> httpx2.Client:
        """A client that has logged in."""
        bearer = {"Authorization": f"Bearer {self.login(username, password)}"}
        return httpx2.Client(base_url=self.url, headers=bearer, trust_env=False)


@contextmanager
def compose_project(*files: Path) -> Iterator[Project]:
    """A project out of these files, nothing of which stays."""
    if not docker_answers():
        reason = "no Docker engine answers here, so docker compose is not tried"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    project = Project(f"scopegate-test-{uuid.uuid4().hex[:8]}", free_port(), files)
    try:
        yield project
    finally:
        # pytest shows it when a test fails.
        print(project.compose("logs"))
        project.compose("down", "--volumes", "--rmi", "local")
