"""Names as people and other systems have them: trimmed, addresses, scopes with slashes."""

from urllib.parse import quote

import httpx2
import pytest

from app.identity.names import MAX_USERNAME
from app.runtime import Runtime
from tests.support.factories import PASSWORD, Someone, bearer, login, make_user

LONGEST_ADDRESS = f"{'x' * 64}@{'y' * 60}.{'y' * 60}.{'y' * 56}.ab.example"
URLS = [
    "https://api.example/orders.read",
    "https://mail.example/",
    "api://0cdd5d25/Files.ReadWrite.All",
    "orders/read",
    "/leading",
    "a//b",
    "files/.hidden",
    "files/...",
    "urn:x/y?z=1&b#c%2F+~",
    "https://api.example/" + "x" * 108,
]
NO_PATHS = ["a/../b", "../admin", "x/.", "./x", "https://api.example/..", "/.", "a/./b", "/../"]


@pytest.mark.parametrize(
    "written", ["Alice ", " Alice", "alice  ", "Alice\u00a0", "ALICE\u3000", "　alice"]
)
async def test_spaces_around_a_username_are_trimmed_wherever_it_is_typed(
    client: httpx2.AsyncClient, alice: Someone, root: dict[str, str], written: str
) -> None:
    form = {"grant_type": "password", "username": written, "password": PASSWORD}
    assert (await client.post("/token", data=form)).status_code == 200
    found = await client.get("/users", params={"q": written}, headers=root)
    assert [each["username"] for each in found.json()["items"]] == ["Alice"]
    taken = await client.post("/users", json=form, headers=root)
    assert taken.status_code == 409
    anna = written.replace("lice", "nna").replace("LICE", "NNA")
    other = {"username": anna, "password": PASSWORD}
    made = await client.post("/users", json=other, headers=root)
    assert (made.status_code, made.json()["username"].casefold()) == (201, "anna")


@pytest.mark.parametrize(
    "name",
    [
        "o'brien+tag@mail.example.org",
        LONGEST_ADDRESS,
        "x" * MAX_USERNAME,
        "ö" * MAX_USERNAME,
        "\U0001f40e" * MAX_USERNAME,
    ],
    ids=["address", "longest address", "ascii", "umlauts", "horses"],
)
async def test_an_address_fits_as_a_username_everywhere(
    client: httpx2.AsyncClient, root: dict[str, str], name: str
) -> None:
    made = await client.post("/users", json={"username": name, "password": PASSWORD}, headers=root)
    assert (made.status_code, made.json()["username"]) == (201, name)
    user = Someone(made.json()["id"], name)
    token = await bearer(client, user)
    assert (await client.get("/users/me", headers=token)).json()["username"] == name
    assert (await client.get("/forward-auth", headers=token)).status_code == 200
    found = await client.get("/users", params={"q": name}, headers=root)
    assert [each["username"] for each in found.json()["items"]] == [name]
    assert (await login(client, user, password="wrong")).status_code == 400
    longer = {"username": "x" * (MAX_USERNAME + 1)}
    assert (await client.patch(f"/users/{user.id}", json=longer, headers=root)).status_code == 422


async def test_an_address_fits_as_a_client_id(
    client: httpx2.AsyncClient, root: dict[str, str]
) -> None:
    new = {"username": LONGEST_ADDRESS, "kind": "service"}
    made = (await client.post("/users", json=new, headers=root)).json()
    answer = await client.post(
        "/token",
        data={"grant_type": "client_credentials"},
        auth=(made["client_id"], made["client_secret"]),
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize("safe", ["", "/:@"], ids=["escaped", "as it is"])
async def test_a_scope_is_named_by_a_url_in_every_route(
    client: httpx2.AsyncClient, runtime: Runtime, root: dict[str, str], name: str, safe: str
) -> None:
    user = await make_user(runtime)
    scope = f"/scopes/{quote(name, safe=safe)}"
    grant = f"/users/{user.id}/grants/{quote(name, safe=safe)}"
    assert (await client.put(grant, headers=root)).status_code == 404, "not registered yet"
    put = await client.put(scope, json={"description": "Read"}, headers=root)
    assert (put.status_code, put.json()["name"]) == (200, name)
    assert name in [each["name"] for each in await listed(client, "/scopes", root)]
    assert (await client.put(grant, headers=root)).status_code == 204
    grants = await listed(client, f"/users/{user.id}/grants", root)
    assert [each["scope"] for each in grants] == [name]
    assert (await login(client, user, scope=name)).json()["scope"] == name
    token = await bearer(client, user)
    asked = {"scope": name}
    assert (await client.get("/forward-auth", params=asked, headers=token)).status_code == 200
    assert (await client.delete(scope, headers=root)).status_code == 409
    assert (await client.delete(grant, headers=root)).status_code == 204
    assert (await client.get("/forward-auth", params=asked, headers=token)).status_code == 403
    assert (await client.delete(scope, headers=root)).status_code == 204


@pytest.mark.parametrize("name", NO_PATHS)
async def test_a_scope_that_a_client_would_shorten_in_a_path_is_refused(
    client: httpx2.AsyncClient, root: dict[str, str], name: str
) -> None:
    answer = await client.put(
        f"/scopes/{quote(name, safe='')}", json={"description": "x"}, headers=root
    )
    assert answer.status_code == 422
    assert "one or two dots" in answer.json()["detail"]


@pytest.mark.parametrize("end", ["%0A", "%0D", "%00", "%0A%0A", "%E2%80%A8", "%20"])
async def test_what_stands_behind_a_scopes_name_is_not_left_out(
    client: httpx2.AsyncClient, runtime: Runtime, root: dict[str, str], end: str
) -> None:
    user = await make_user(runtime, "read:items")
    path = f"/users/{user.id}/grants"
    assert (await client.put(f"{path}/write:items{end}", headers=root)).status_code == 404
    await client.delete(f"{path}/read:items{end}", headers=root)
    assert [each["scope"] for each in await listed(client, path, root)] == ["read:items"]
    body = {"description": "x"}
    assert (await client.put(f"/scopes/x{end}", json=body, headers=root)).status_code == 422


async def test_a_path_without_a_scope_is_not_found(
    client: httpx2.AsyncClient, runtime: Runtime, root: dict[str, str]
) -> None:
    user = await make_user(runtime)
    for path in ("/scopes/", f"/users/{user.id}/grants/"):
        for method in ("PUT", "DELETE"):
            assert (await client.request(method, path, headers=root)).status_code == 404


async def listed(
    client: httpx2.AsyncClient, path: str, headers: dict[str, str]
) -> list[dict[str, str]]:
    items: list[dict[str, str]] = (
        await client.get(path, params={"limit": 100}, headers=headers)
    ).json()["items"]
    return items
