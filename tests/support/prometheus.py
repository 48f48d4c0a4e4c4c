"""A real Prometheus: configured as it ships, but for addresses and intervals."""

import json
import math
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml

from app.settings import PROJECT
from tests.support.processes import PATIENCE, eventually, free_port

FOLDER = PROJECT / "deploy" / "monitoring"
PROGRAMS = ("prometheus", "promtool")
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD: list[tuple[str, str]] = [
    (panel["title"], target["expr"])
    for panel in json.loads((FOLDER / "grafana.json").read_text())["panels"]
    for target in panel["targets"]
]
"""Each query under the title of its panel."""
SCRAPE_SECONDS = 1
RATE_INTERVAL = f"{4 * SCRAPE_SECONDS}s"
"""What Grafana puts for `$__rate_interval` where a graph has a point for each scrape."""


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that runs, asked by its API."""

    url: str
    configuration: Path

    def ask(self, path: str, **query: str) -> Any:
        """Return the data of an answer, which must be a success."""
        answer = httpx2.get(f"{self.url}/api/v1/{path}", params=query, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def values(self, query: str) -> list[float]:
        """Return what a graph of the last minutes shows, as Grafana asks for it."""
        now = float(self.ask("query", query="time()")["result"][1])
        span = {"start": f"{now - 300}", "end": f"{now}", "step": f"{SCRAPE_SECONDS}"}
        query = query.replace("$__rate_interval", RATE_INTERVAL)
        series = self.ask("query_range", query=query, **span)["result"]
        values = [float(value) for each in series for _, value in each["values"]]
        return [value for value in values if not math.isnan(value)]

    def value(self, query: str) -> float:
        """Return the one number that a query has at this moment; NaN if it has none."""
        series = self.ask("query", query=query)["result"]
        return float(series[0]["value"][1]) if series else math.nan

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules that were loaded."""
        rules = [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]
        return [dict(rule) for rule in rules]

    def evaluate(self) -> None:
        """Wait until every rule was evaluated anew."""
        before = {rule["name"]: rule["lastEvaluation"] for rule in self.rules()}
        eventually(
            lambda: all(rule["lastEvaluation"] > before[rule["name"]] for rule in self.rules())
        )

    def alerts(self) -> dict[str, str]:
        """Return the alerts whose expression holds: `pending`, or `firing`."""
        return {each["labels"]["alertname"]: each["state"] for each in self.ask("alerts")["alerts"]}

    def targets(self) -> dict[str, str]:
        """Return how the last scrape of each target went: "" is well."""
        return {
            each["labels"]["instance"]: each["lastError"] if each["health"] != "up" else ""
            for each in self.ask("targets")["activeTargets"]
            if each["health"] != "unknown"
        }


@contextmanager
def scraping(folder: Path, *urls: str, token: str) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes the services at these URLs with this token."""
    configuration = folder / "prometheus.yaml"
    configuration.write_text(json.dumps(_configuration(folder, urls, token)))
    port = free_port()
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output,
            stderr=output,
        )
    prometheus = Prometheus(f"http://127.0.0.1:{port}", configuration)

    def is_ready() -> bool:
        assert process.poll() is None, (folder / "output").read_text()
        try:
            return httpx2.get(f"{prometheus.url}/-/ready").status_code == 200
        except httpx2.TransportError:
            return False

    try:
        eventually(is_ready)
        yield prometheus
    finally:
        process.terminate()
        process.wait(PATIENCE)


def promtool(*arguments: str | Path, stdin: str = "") -> str:
    """Return what Prometheus' own checks print; they must find nothing wrong."""
    done = subprocess.run(["promtool", *arguments], input=stdin, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _configuration(folder: Path, urls: tuple[str, ...], token: str) -> dict[str, Any]:
    """Return the configuration as it ships, JSON being YAML: these targets, and soon."""
    shipped: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    shipped["global"] |= dict.fromkeys(shipped["global"], f"{SCRAPE_SECONDS}s")
    shipped["rule_files"] = [str(FOLDER / file) for file in shipped["rule_files"]]
    (job,) = shipped["scrape_configs"]
    assert job.pop("dns_sd_configs")
    job["static_configs"] = [{"targets": [url.removeprefix("http://") for url in urls]}]
    # Prometheus leaves out the end of the line, as the file in Compose's volume has one.
    (folder / "token").write_text(f"{token}\n")
    job["authorization"]["credentials_file"] = str(folder / "token")
    return shipped
