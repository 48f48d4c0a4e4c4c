"""Monitoring with a real Prometheus: it scrapes a service, and evaluates alerts and dashboard."""

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conftest import SECRET
from tests.support import databases
from tests.support.factories import PASSWORD
from tests.support.postgres_programs import psql
from tests.support.processes import SERVE, Service, command, eventually, free_port, serving
from tests.support.prometheus import (
    DASHBOARD,
    FOLDER,
    PROGRAMS,
    RULES,
    Prometheus,
    promtool,
    scraping,
)

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, PROGRAMS)) and not os.environ.get("CI"), reason="no Prometheus"
)
METRICS_TOKEN = "a-metrics-token-for-the-tests-0123456789"


@dataclass(frozen=True)
class Monitored:
    """A service with two workers, and the Prometheus that scrapes it."""

    service: Service
    prometheus: Prometheus
    database_url: str

    def post(self, **form: str) -> httpx2.Response:
        """Return what POST /token answers."""
        return httpx2.post(f"{self.service.url}/token", data=form)

    def sign_in(self) -> dict[str, Any]:
        """Return alice's tokens."""
        answer = self.post(username="alice", password=PASSWORD)
        assert answer.status_code == 200, answer.text
        tokens: dict[str, Any] = answer.json()
        return tokens

    def use(self) -> None:
        """Make requests of several kinds."""
        bearer = {"Authorization": f"Bearer {self.sign_in()['access_token']}"}
        for path, status in (("/items", 200), ("/items", 200), ("/users", 403), ("/none", 404)):
            assert httpx2.get(f"{self.service.url}{path}", headers=bearer).status_code == status


@pytest.fixture(scope="module")
async def settings(server_url: str, template: None) -> AsyncIterator[dict[str, Any]]:
    """Of a service on a database with alice. It hashes one login at a time, and one may wait."""
    name = await databases.clone_template(server_url)
    url = databases.database_url(server_url, name)
    settings = {"database_url": url, "secret_keys": SECRET, "metrics_token": METRICS_TOKEN}
    await command("user", "create", "alice", "--scope", "read:items", stdin=PASSWORD, **settings)
    yield settings | {"hash_threads": 1, "hash_queue": 1}
    await databases.drop(server_url, name)


@pytest.fixture(scope="module")
def monitored(
    settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Monitored]:
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        serving([*SERVE, "--workers", "2"], **settings) as service,
        scraping(folder, service.url, token=METRICS_TOKEN) as prometheus,
    ):
        monitored = Monitored(service, prometheus, settings["database_url"])
        eventually(lambda: prometheus.targets().values())
        yield monitored


def test_prometheus_scrapes_every_worker_and_finds_nothing_wrong_with_the_metrics(
    monitored: Monitored,
) -> None:
    monitored.use()
    prometheus = monitored.prometheus
    assert list(prometheus.targets().values()) == [""]
    eventually(lambda: prometheus.value("count(scopegate_feed_fresh)") == 2)
    scrape = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    metrics = httpx2.get(f"{monitored.service.url}/metrics", headers=scrape)
    assert promtool("check", "metrics", stdin=metrics.text) == ""


def test_prometheus_takes_the_configuration_and_every_alert(monitored: Monitored) -> None:
    promtool("check", "config", "--lint=all", "--lint-fatal", monitored.prometheus.configuration)
    promtool("check", "rules", "--lint=all", "--lint-fatal", FOLDER / "alerts.yaml")

    def evaluated() -> list[dict[str, Any]]:
        return [rule for rule in monitored.prometheus.rules() if rule["health"] != "unknown"]

    eventually(lambda: len(evaluated()) == len(RULES))
    assert [(rule["name"], rule["health"]) for rule in evaluated()] == [
        (rule["alert"], "ok") for rule in RULES
    ]


def test_every_alert_is_raised_by_the_series_that_should_and_by_no_others() -> None:
    assert "SUCCESS" in promtool("test", "rules", FOLDER / "alerts_test.yaml")


def test_every_query_of_the_dashboard_answers_with_data(monitored: Monitored) -> None:
    def unanswered() -> list[tuple[str, str]]:
        monitored.use()
        return [query for query in DASHBOARD if not monitored.prometheus.values(query[1])]

    eventually(lambda: unanswered() == [])


def test_the_dashboard_shows_what_was_asked(monitored: Monitored) -> None:
    """Quantiles in their order, no errors where there were none, and the status of each answer."""

    def shown(title: str) -> list[list[float]]:
        return [monitored.prometheus.values(query) for name, query in DASHBOARD if name == title]

    monitored.use()
    eventually(lambda: all(map(max, shown("Duration"))))
    p50, p95, p99 = map(max, shown("Duration"))
    assert 0 < p50 <= p95 <= p99 < 60
    assert {*shown("Errors: share of requests that end with 5xx")[0]} == {0.0}
    series = monitored.prometheus.ask(
        "query", query="sum by (status) (scopegate_request_duration_seconds_count)"
    )
    assert {"200", "403", "404"} <= {each["metric"]["status"] for each in series["result"]}


def test_a_service_that_is_well_raises_no_alert(monitored: Monitored) -> None:
    for _ in range(3):
        monitored.use()
        monitored.prometheus.evaluate()
        assert monitored.prometheus.alerts() == {}


def use_a_refresh_token_twice(monitored: Monitored) -> None:
    stolen = token = monitored.sign_in()["refresh_token"]
    for _ in range(2):
        answer = monitored.post(grant_type="refresh_token", refresh_token=token)
        token = answer.json()["refresh_token"]
    again = monitored.post(grant_type="refresh_token", refresh_token=stolen)
    assert again.status_code == 400


def sign_in_more_often_than_can_be_hashed(monitored: Monitored) -> None:
    with ThreadPoolExecutor(12) as clients:
        form = {"username": "alice", "password": PASSWORD}
        answers = list(clients.map(lambda _: monitored.post(**form).status_code, range(24)))
    assert 503 in answers


def guess_passwords(monitored: Monitored) -> None:
    with httpx2.Client(base_url=monitored.service.url) as client:
        form = {"username": "nobody", "password": "wrong"}
        answers = [client.post("/token", data=form).status_code for _ in range(400)]
    assert answers[-1] == 429


def switch_a_trigger_off(monitored: Monitored) -> None:
    assert psql(monitored.database_url, "ALTER TABLE grants DISABLE TRIGGER ALL").returncode == 0


def age_the_key(monitored: Monitored) -> None:
    older = "UPDATE signing_keys SET signs_from = now() - interval '91 days'"
    assert psql(monitored.database_url, older).returncode == 0
    monitored.use()  # A process reads the keys again when it needs one.


FAULTS: dict[str, tuple[Callable[[Monitored], None], str]] = {
    "ScopegateRefreshReused": (use_a_refresh_token_twice, "firing"),
    "ScopegateHashQueueFull": (sign_in_more_often_than_can_be_hashed, "firing"),
    "ScopegateErrors": (sign_in_more_often_than_can_be_hashed, "pending"),
    "ScopegateThrottled": (guess_passwords, "pending"),
    "ScopegateKeyTooOld": (age_the_key, "pending"),
    "ScopegateTriggersWrong": (switch_a_trigger_off, "firing"),
    "ScopegateFeedNotFresh": (switch_a_trigger_off, "pending"),
}


@pytest.mark.parametrize("alert", FAULTS)
def test_a_real_fault_raises_its_alert(monitored: Monitored, alert: str) -> None:
    """Pending, where an alert waits whether it lasts."""
    cause, state = FAULTS[alert]

    def raised() -> bool:
        cause(monitored)
        return monitored.prometheus.alerts().get(alert) == state

    eventually(raised)


def test_a_wrong_token_and_a_service_that_is_gone_are_down(
    monitored: Monitored, tmp_path: Path
) -> None:
    url, gone = monitored.service.url, f"http://127.0.0.1:{free_port()}"
    with scraping(tmp_path, url, gone, token=f"{METRICS_TOKEN}-of-before") as prometheus:
        eventually(lambda: len(prometheus.targets()) == 2)
        eventually(lambda: prometheus.alerts() == {"ScopegateDown": "pending"})
        assert "401" in prometheus.targets()[url.removeprefix("http://")]
        assert "refused" in prometheus.targets()[gone.removeprefix("http://")]
