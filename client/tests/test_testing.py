"""The helper for a team's own tests: no Scopegate, no token, and the scopes still count."""

from typing import Annotated

import pytest
from fastapi import FastAPI, Security
from fastapi.testclient import TestClient

from scopegate_client import Principal, Scopegate
from scopegate_client.testing import signed_in

NOWHERE = "http://127.0.0.1:9"

scopegate = Scopegate(NOWHERE, client_id="orders", client_secret="s")
app = FastAPI(lifespan=scopegate.lifespan)


@app.get("/orders")
async def orders(
    principal: Annotated[Principal, Security(scopegate.principal, scopes=["read:orders"])],
) -> list[str]:
    return [f"An order of {principal.subject}"]


def test_each_request_of_the_block_is_from_the_principal() -> None:
    with (
        signed_in(scopegate, scopes={"read:orders"}, subject="alice") as alice,
        TestClient(app) as client,
    ):
        assert client.get("/orders").json() == ["An order of alice"]
        assert client.get("/orders", headers={"Authorization": "Bearer x"}).status_code == 200
        assert alice.scopes == {"read:orders"}
        assert alice.claims["sub"] == "alice"


def test_the_scopes_of_a_route_are_still_required() -> None:
    with signed_in(scopegate, scopes={"write:orders"}), TestClient(app) as client:
        answer = client.get("/orders")
    assert answer.status_code == 403
    assert 'scope="read:orders"' in answer.headers["www-authenticate"]


def test_one_principal_may_follow_another_and_after_the_blocks_no_one_is_signed_in() -> None:
    with TestClient(app) as client:
        with signed_in(scopegate, scopes={"read:orders"}, subject="alice"):
            with signed_in(scopegate, scopes={"read:orders"}, subject="bob"):
                assert client.get("/orders").json() == ["An order of bob"]
            assert client.get("/orders").json() == ["An order of alice"]
        assert client.get("/orders").status_code == 401
        with pytest.raises(ZeroDivisionError), signed_in(scopegate, scopes={"read:orders"}):
            raise ZeroDivisionError
        assert client.get("/orders").status_code == 401


def test_a_lifespan_that_begins_in_the_block_connects_to_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with signed_in(scopegate, scopes={"read:orders"}), TestClient(app) as client:
        assert client.get("/orders").status_code == 200
        assert scopegate.state.fresh is False
    assert caplog.records == []
