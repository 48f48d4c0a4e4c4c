"""The service's own tests: they need no Scopegate and no tokens."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from examples.resource_server.app import create_app
from scopegate_client import Scopegate
from scopegate_client.testing import signed_in

scopegate = Scopegate("https://auth.example", client_id="orders", client_secret="not used")
READ, WRITE = "read:orders", "write:orders"


@pytest.fixture
def client() -> Iterator[TestClient]:
    with signed_in(scopegate), TestClient(create_app(scopegate)) as client:
        yield client


def test_an_order_is_listed_for_its_owner_alone(client: TestClient) -> None:
    with signed_in(scopegate, scopes={READ, WRITE}, subject="alice"):
        assert client.post("/orders", json={"item": "Lamp"}).status_code == 201
        assert client.get("/orders").json() == [{"item": "Lamp"}]
    with signed_in(scopegate, scopes={READ}, subject="bob"):
        assert client.get("/orders").json() == []


def test_ordering_needs_both_scopes(client: TestClient) -> None:
    for scopes in ({READ}, {WRITE}, set[str]()):
        with signed_in(scopegate, scopes=scopes):
            assert client.post("/orders", json={"item": "Lamp"}).status_code == 403


def test_the_documentation_names_the_scopes_and_signs_in_at_scopegate(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    flow = document["components"]["securitySchemes"]["Scopegate"]["flows"]["password"]
    assert flow["tokenUrl"] == "https://auth.example/token"
    assert set(flow["scopes"]) == {READ, WRITE}
