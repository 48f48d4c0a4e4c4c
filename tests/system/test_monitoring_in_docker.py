"""docker-compose.monitoring.yml: all of it but the images of Prometheus and Grafana."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.settings import PROJECT
from tests.support.compose import COMPOSE_FILE, SCALE_FILE, Project, compose_project
from tests.support.factories import PASSWORD
from tests.support.processes import PATIENCE

pytestmark = pytest.mark.docker

MONITORING_FILE = PROJECT / "docker-compose.monitoring.yml"
NOBODY = "65534"
"""Who Prometheus' image runs as."""
GRAFANA = "472"


@pytest.fixture
def project() -> Iterator[Project]:
    with compose_project(COMPOSE_FILE, MONITORING_FILE) as project:
        yield project


def configured(*files: Path) -> dict[str, Any]:
    """Return what Compose makes of these files."""
    with compose_project(*files) as project:
        configuration: dict[str, Any] = json.loads(project.compose("config", "--format", "json"))
        return configuration


@pytest.mark.parametrize(
    "files",
    [(COMPOSE_FILE, MONITORING_FILE), (COMPOSE_FILE, SCALE_FILE, MONITORING_FILE)],
    ids=["one replica", "several"],
)
def test_compose_takes_the_file_and_prometheus_and_grafana_reach_the_service_alone(
    files: tuple[Path, ...],
) -> None:
    configuration = configured(*files)
    services = configuration["services"]
    for name in ("prometheus", "grafana"):
        assert list(services[name]["networks"]) == ["monitoring"]
        assert [port["host_ip"] for port in services[name]["ports"]] == ["127.0.0.1"]
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]
        for volume in services[name]["volumes"]:
            assert volume["type"] == "volume" or Path(volume["source"]).is_file()
            assert volume.get("read_only") or volume["source"] == f"{name}-data"
    reached = {name for name, each in services.items() if "monitoring" in each.get("networks", ())}
    assert reached == {"api", "prometheus", "grafana"}
    assert "default" in services["api"]["networks"]


def test_with_nothing_set_the_service_takes_the_token_that_prometheus_can_read(
    project: Project,
) -> None:
    project.settings["SCOPEGATE_ADMIN_PASSWORD"] = PASSWORD
    project.up("api")
    token = read_secret(project, "metrics/token", user=NOBODY)
    assert len(token) == len(read_secret(project, "grafana/password", user=GRAFANA)) == 43
    assert scrape(project, token) == 200
    assert scrape(project, f"{token}x") == 401
    project.up("api")
    assert read_secret(project, "metrics/token", user=NOBODY) == token

    own = "a-token-that-the-operator-has-chosen-0123456789"
    project.settings["SCOPEGATE_METRICS_TOKEN"] = own
    project.up("api")
    assert read_secret(project, "metrics/token", user=NOBODY) == own
    assert (scrape(project, own), scrape(project, token)) == (200, 401)


def read_secret(project: Project, name: str, *, user: str) -> str:
    """Return a secret as the container of this user reads it."""
    command = ("run", "--rm", "--no-deps", "--user", user, "monitoring-secrets", "cat", name)
    return project.compose(*command).strip()


def scrape(project: Project, token: str) -> int:
    """Return what a scrape with this token is answered."""
    bearer = {"Authorization": f"Bearer {token}"}
    url = f"{project.url}/metrics"
    return httpx2.get(url, headers=bearer, timeout=PATIENCE, trust_env=False).status_code
