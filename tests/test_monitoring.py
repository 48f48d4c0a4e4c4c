"""Alerts and dashboard ask for metrics that there are, and the documents tell what to do."""

import json
import re

import pytest
import yaml

from app.ops.metrics import Requests, render_metrics
from app.runtime import Runtime
from app.settings import PROJECT
from tests.ops.test_metrics import Found, read

FOLDER = PROJECT / "deploy" / "monitoring"
METRICS = (PROJECT / "docs" / "reference" / "metrics.md").read_text()
ALERTS = (PROJECT / "docs" / "how-to" / "monitor.md").read_text()
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
PANELS = json.loads((FOLDER / "grafana.json").read_text())["panels"]
QUERIES = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in PANELS for target in panel["targets"]
]
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
