"""The code in the README does what it says."""

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from client.tests.stand_in import StandIn
from scopegate_client import Scopegate

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = dict(
    re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```$", README, re.M | re.S)
)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What "Start" defines."""
    for name, value in (("ISSUER", "http://127.0.0.1:9"), ("CLIENT_ID", "orders")):
        monkeypatch.setenv(f"SCOPEGATE_{name}", value)
    monkeypatch.setenv("SCOPEGATE_CLIENT_SECRET", "s")
    defined: dict[str, Any] = {}
    exec(BLOCKS["Start"], defined)  # noqa: S102
    return defined


def test_the_service_of_the_readme_passes_the_test_of_the_readme(service: dict[str, Any]) -> None:
    service["TestClient"] = TestClient
    exec(BLOCKS["Test your service"], service)  # noqa: S102
    service["test_orders_are_listed"]()
    with TestClient(service["app"]) as client:
        assert client.get("/orders").status_code == 401


async def test_the_mcp_server_of_the_readme_starts() -> None:
    async with StandIn().serving() as stand_in:
        defined: dict[str, Any] = {"scopegate": stand_in.client()}
        exec(BLOCKS["MCP servers"], defined)  # noqa: S102
        async with defined["app"].router.lifespan_context(defined["app"]):
            pass


def test_the_readme_names_what_there_is() -> None:
    scopegate = Scopegate("https://auth.example", client_id="orders", client_secret="s")
    for name in re.findall(r"`scopegate\.(\w+)", README):
        assert hasattr(scopegate, name), name
    for member in ("fresh", "connected", "lag", "introspections", "refused", "events"):
        assert f"`{member}`" in README
        assert hasattr(scopegate.state, member)
