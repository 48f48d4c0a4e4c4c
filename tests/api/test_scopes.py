"""Scopes of other services: registered, granted, asked for, removed."""

import httpx2
import pytest

from app.access.scopes import SHIPPED
from app.runtime import Runtime
from tests.support.clock import MovableClock
from tests.support.factories import bearer, login, make_user

Headers = dict[str, str]


async def put(client: httpx2.AsyncClient, by: Headers, name: str, text: str = "Ship") -> int:
    answer = await client.put(f"/scopes/{name}", json={"description": text}, headers=by)
    if answer.status_code == 200:
        assert answer.json()["description"] == text
    return answer.status_code


async def test_a_scope_is_registered_granted_asked_for_and_removed(
    client: httpx2.AsyncClient, runtime: Runtime, root: Headers, clock: MovableClock
) -> None:
    alice = await make_user(runtime, "read:items")
    grant = f"/users/{alice.id}/grants/ship:orders"
    assert (await client.put(grant, headers=root)).status_code == 404
    for text in ("Ship", "Ship", "Ship orders"):
        assert await put(client, root, "ship:orders", text) == 200
    metadata = await client.get("/.well-known/oauth-authorization-server")
    assert "ship:orders" in metadata.json()["scopes_supported"]
    assert (await login(client, alice, scope="ship:orders")).status_code == 400, "nobody has it"
    assert (await client.put(grant, headers=root)).status_code == 204
    assert (await login(client, alice, scope="ship:orders")).json()["scope"] == "ship:orders"
    assert (await client.delete("/scopes/ship:orders", headers=root)).status_code == 409
    end = {"expires_at": (clock().replace(microsecond=0)).isoformat().replace("+00:00", "Z")}
    assert (await client.put(grant, json=end, headers=root)).status_code == 422
    assert (await client.delete(grant, headers=root)).status_code == 204
    assert (await client.delete("/scopes/ship:orders", headers=root)).status_code == 204
    assert (await client.delete("/scopes/ship:orders", headers=root)).status_code == 404


async def test_everybody_signed_in_may_list_the_scopes_by_page(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    token = await bearer(client, await make_user(runtime))
    seen: dict[str, str] = {}
    after: dict[str, str] = {}
    while True:
        page = (await client.get("/scopes", params={"limit": 3, **after}, headers=token)).json()
        seen |= {each["name"]: each["description"] for each in page["items"]}
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert seen == SHIPPED
    assert list(seen) == sorted(seen)


async def test_scopes_that_ship_stay_as_they_are(client: httpx2.AsyncClient, root: Headers) -> None:
    for name in SHIPPED:
        assert await put(client, root, name) == 409
        assert (await client.delete(f"/scopes/{name}", headers=root)).status_code == 409


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("x" * 128, 200),
        ("!#$&'()*+,-.:;<=>@[]^_`{|}~", 200),
        ("x" * 129, 422),
        ("two%20words", 422),
        ('a"b', 422),
        ("a%5Cb", 422),
        ("é", 422),
        ("a%00", 422),
        ("...", 200),
    ],
)
async def test_names_are_those_of_rfc_6749(
    client: httpx2.AsyncClient, root: Headers, name: str, status: int
) -> None:
    quoted = name.replace("#", "%23")
    assert await put(client, root, quoted) == status
    if status == 200:
        listed = (await client.get("/scopes?limit=100", headers=root)).json()["items"]
        assert name in {each["name"] for each in listed}
