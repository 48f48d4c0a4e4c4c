"""`make dev`: it puts in sample data, and restarts the service when its code changes."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dev.sample_data import ADMIN, ITEMS, READER, SCOPES, SERVICE, TEMPORARY, WRITER
from tests.support.processes import ROOT, Service, eventually, serving

DEV = (sys.executable, "-m", "dev")
TRY = "After a change of migrations"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the service and `make dev` need of this checkout, without any data."""
    folder = tmp_path_factory.mktemp("dev") / "checkout"
    for name in ("app", "dev", "migrations"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "alembic.ini", folder)
    return folder


@pytest.fixture(scope="module")
def dev(checkout: Path) -> Iterator[Service]:
    with serving(DEV, cwd=checkout) as service:
        eventually(lambda: TRY in service.output())
        yield service


def secrets_of(checkout: Path) -> dict[str, str]:
    secrets: dict[str, str] = json.loads((checkout / ".scopegate/sample-data.json").read_text())
    return secrets


def sign_in(service: Service, name: str, password: str) -> dict[str, Any]:
    form = {"grant_type": "password", "username": name, "password": password}
    answer = httpx2.post(f"{service.url}/token", data=form)
    assert answer.status_code == 200, answer.text
    token: dict[str, Any] = answer.json()
    return token


def get(service: Service, path: str, token: dict[str, Any]) -> Any:
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    return httpx2.get(f"{service.url}{path}", headers=headers).raise_for_status().json()


def test_the_sample_people_hold_what_is_printed(dev: Service, checkout: Path) -> None:
    password = secrets_of(checkout)["password"]
    assert password in dev.output()
    held = {
        name: set(get(dev, "/users/me", sign_in(dev, name, password))["granted"])
        for name in (ADMIN, WRITER, READER)
    }
    expected = {name: set(SCOPES[name]) for name in held}
    expected[READER].add(TEMPORARY)
    assert held == expected


def test_the_writer_has_the_sample_items(dev: Service, checkout: Path) -> None:
    token = sign_in(dev, WRITER, secrets_of(checkout)["password"])
    titles = [item["title"] for item in get(dev, "/items", token)["items"]]
    assert titles == list(ITEMS)


def test_the_sample_service_may_introspect(dev: Service, checkout: Path) -> None:
    secrets = secrets_of(checkout)
    token = sign_in(dev, WRITER, secrets["password"])["access_token"]
    client = (SERVICE, secrets["client_secret"])
    answer = httpx2.post(f"{dev.url}/introspect", data={"token": token}, auth=client)
    assert answer.json()["active"] is True


def test_a_change_of_the_code_is_served_and_broken_code_is_waited_for(
    dev: Service, checkout: Path
) -> None:
    main = checkout / "app" / "main.py"
    good = main.read_text()
    main.write_text("raise SystemExit('this code is broken')")
    eventually(lambda: "The service ended." in dev.output())
    main.write_text(good.replace('title="Scopegate"', 'title="Changed"'))
    eventually(lambda: is_served(dev, "Changed"))
    assert "this code is broken" in dev.output()


def is_served(service: Service, title: str) -> bool:
    try:
        found: dict[str, Any] = httpx2.get(f"{service.url}/openapi.json").json()
    except httpx2.TransportError:
        return False
    return bool(found["info"]["title"] == title)
