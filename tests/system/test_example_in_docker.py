"""docker-compose.example.yml, for real: one command starts Scopegate and a service beside it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from app.settings import PROJECT
from tests.support.compose import COMPOSE_FILE, Project, compose_project
from tests.support.factories import PASSWORD
from tests.support.processes import PATIENCE, eventually, free_port

pytestmark = pytest.mark.docker

EXAMPLE_FILE = PROJECT / "docker-compose.example.yml"
SECRET = "/run/scopegate/orders/secret"


@pytest.fixture
def project() -> Iterator[Project]:
    with compose_project(COMPOSE_FILE, EXAMPLE_FILE) as project:
        project.settings["SCOPEGATE_ADMIN_PASSWORD"] = PASSWORD
        project.settings["ORDERS_PORT"] = str(free_port())
        yield project


def status(project: Project, token: str) -> int:
    """Return what the example answers a request for orders."""
    return httpx2.get(
        f"http://127.0.0.1:{project.settings['ORDERS_PORT']}/orders",
        headers={"Authorization": f"Bearer {token}"},
        timeout=PATIENCE,
        trust_env=False,
    ).status_code


def secret_of(project: Project) -> str:
    """Return the service account's secret as the example reads it."""
    return project.compose("exec", "-T", "orders", "cat", SECRET).strip()


def test_one_command_starts_both_and_what_scopegate_takes_away_is_refused(
    project: Project,
) -> None:
    project.up()
    project.scopegate("user", "create", "alice", "--scope", "read:orders", stdin=PASSWORD)
    token = project.login("alice", PASSWORD)
    assert status(project, token) == 200
    assert project.compose("exec", "-T", "orders", "id", "--user").strip() == "10001"
    project.scopegate("revoke", "alice", "read:orders")
    eventually(lambda: status(project, token) == 403)
    project.scopegate("session", "end-all", "alice")
    eventually(lambda: status(project, token) == 401)

    secret = secret_of(project)
    project.up("--force-recreate")
    assert secret_of(project) == secret
    made = json.loads(project.scopegate("user", "secrets", "orders", "--json"))
    assert len(made) == 1
    eventually(lambda: status(project, project.login("alice", PASSWORD)) == 403)
    # As after a crash between the two: the account is there, and its secret was never kept.
    project.compose("run", "--rm", "orders-account", "rm", "secret")
    project.up("--force-recreate", "orders")
    assert secret_of(project) != secret
    project.scopegate("grant", "alice", "read:orders")
    eventually(lambda: status(project, project.login("alice", PASSWORD)) == 200)

    logs = project.compose("logs")
    assert not [each for each in (secret, secret_of(project)) if each in logs]


def configured(project: Project) -> dict[str, Any]:
    """Return what Compose makes of the files."""
    configuration: dict[str, Any] = json.loads(project.compose("config", "--format", "json"))
    return configuration


def test_the_example_is_hardened_reaches_scopegate_alone_and_no_other_sees_its_secret(
    project: Project,
) -> None:
    services = configured(project)["services"]
    for name in ("orders", "orders-account"):
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]
    assert [port["host_ip"] for port in services["orders"]["ports"]] == ["127.0.0.1"]
    assert {name for name, each in services.items() if "orders" in each.get("networks", ())} == {
        "api",
        "orders",
    }
    assert "default" in services["api"]["networks"]
    mounted = {
        name: [volume["source"] for volume in each.get("volumes", ())]
        for name, each in services.items()
    }
    assert mounted["orders"] == ["orders-secret"]
    assert {name for name, volumes in mounted.items() if "orders-secret" in volumes} == {
        "orders",
        "orders-account",
    }
