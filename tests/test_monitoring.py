"""Alerts and dashboard ask for metrics that there are, and the documents tell what to do."""

import re

import pytest
import yaml

from app.ops.metrics import Requests, render_metrics
from app.runtime import Runtime
from app.settings import PROJECT
from tests.support.metrics import Found, read
from tests.support.prometheus import DASHBOARD, FOLDER, RULES

METRICS = (PROJECT / "docs" / "reference" / "metrics.md").read_text()
ALERTS = (PROJECT / "docs" / "how-to" / "monitor.md").read_text()
QUERIES = [rule["expr"] for rule in RULES] + [query for _, query in DASHBOARD]
NAME = r"scopegate_\w+"


@pytest.fixture
def found(runtime: Runtime) -> Found:
    """What a process tells that has answered to something."""
    requests = Requests()
    requests.count(method="GET", route="/items", status=200, seconds=0.01)
    return read(render_metrics(runtime, requests).decode())


async def test_every_query_asks_for_a_metric_and_a_label_that_there_are(found: Found) -> None:
    names = {name for name, _ in found}
    assert len(QUERIES) > 20
    for query in QUERIES:
        asked = set(re.findall(NAME, query))
        assert asked, query
        assert asked <= names, query
        for name, label, value in re.findall(rf'({NAME}){{(\w+)="([^"]+)"}}', query):
            assert any(each == name and (label, value) in has for each, has in found), query


async def test_the_documents_name_every_metric_and_no_other(found: Found) -> None:
    told = set(re.findall(rf"`({NAME})`", METRICS))
    told |= {name.replace("_depth", "_limit").replace("_used", "_limit") for name in told}
    families = {re.sub("_(bucket|count|sum|created)$", "", name) for name, _ in found}
    assert told == families


def test_every_alert_has_its_line_of_what_to_do() -> None:
    told = re.findall(r"^\| `(Scopegate\w+)` \| .+ \|$", ALERTS, re.MULTILINE)
    assert sorted(told) == sorted(rule["alert"] for rule in RULES)
    for rule in RULES:
        path, _, heading = rule["annotations"]["runbook"].partition("#")
        assert path == "docs/how-to/monitor.md"
        assert f"## {heading.capitalize()}\n" in ALERTS


def test_every_alert_is_tested_with_series_that_raise_it_and_with_others() -> None:
    """tests/system/test_prometheus.py has Prometheus' own program run these tests."""
    cases = [
        case
        for test in yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    for raised in (True, False):
        tested = {case["alertname"] for case in cases if bool(case.get("exp_alerts")) is raised}
        assert tested == {rule["alert"] for rule in RULES}


def test_grafana_takes_rates_over_the_interval_at_which_prometheus_scrapes() -> None:
    prometheus = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    (source,) = yaml.safe_load((FOLDER / "grafana" / "datasource.yaml").read_text())["datasources"]
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    (job,) = prometheus["scrape_configs"]
    assert any(f'up{{job="{job["job_name"]}"}}' in rule["expr"] for rule in RULES)
