"""Items: one's own; everybody's for an admin; paged by key."""

import uuid

import httpx2
import pytest

from app.runtime import Runtime
from tests.support.factories import bearer, make_user

pytestmark = pytest.mark.every_token_kind

Headers = dict[str, str]


@pytest.fixture
async def alice(client: httpx2.AsyncClient, runtime: Runtime) -> Headers:
    return await bearer(client, await make_user(runtime, "read:items", "write:items"))


@pytest.fixture
async def bob(client: httpx2.AsyncClient, runtime: Runtime) -> Headers:
    return await bearer(client, await make_user(runtime, "read:items", "write:items"))


@pytest.fixture
async def root(client: httpx2.AsyncClient, runtime: Runtime) -> Headers:
    return await bearer(client, await make_user(runtime, "admin"))


async def create(client: httpx2.AsyncClient, owner: Headers, title: str = "Lamp") -> str:
    answer = await client.post("/items", json={"title": title}, headers=owner)
    assert answer.status_code == 201
    found: str = answer.json()["id"]
    return found


async def test_an_item_is_created_read_changed_and_deleted(
    client: httpx2.AsyncClient, alice: Headers
) -> None:
    made = await client.post(
        "/items", json={"title": "Lamp", "description": "A lamp"}, headers=alice
    )
    assert made.status_code == 201
    path = f"/items/{made.json()['id']}"
    assert (await client.get(path, headers=alice)).json() == made.json()
    changed = await client.patch(path, json={"title": "Old lamp"}, headers=alice)
    assert (changed.json()["title"], changed.json()["description"]) == ("Old lamp", "A lamp")
    cleared = await client.patch(path, json={"description": None}, headers=alice)
    assert (cleared.json()["title"], cleared.json()["description"]) == ("Old lamp", None)
    assert (await client.patch(path, json={}, headers=alice)).json()["title"] == "Old lamp"
    assert (await client.delete(path, headers=alice)).status_code == 204
    for answer in (
        await client.get(path, headers=alice),
        await client.delete(path, headers=alice),
        await client.patch(path, json={"title": "x"}, headers=alice),
    ):
        assert answer.status_code == 404


async def test_somebody_elses_item_is_not_found(
    client: httpx2.AsyncClient, alice: Headers, bob: Headers
) -> None:
    path = f"/items/{await create(client, alice)}"
    assert (await client.get(path, headers=bob)).status_code == 404
    assert (await client.patch(path, json={"title": "x"}, headers=bob)).status_code == 404
    assert (await client.patch(path, json={}, headers=bob)).status_code == 404
    assert (await client.delete(path, headers=bob)).status_code == 404
    assert (await client.get("/items", headers=bob)).json()["items"] == []
    assert (await client.get(path, headers=alice)).json()["title"] == "Lamp"


async def test_admin_sees_and_changes_all(
    client: httpx2.AsyncClient, alice: Headers, bob: Headers, root: Headers
) -> None:
    made = {await create(client, alice), await create(client, bob)}
    listed = (await client.get("/items", headers=root)).json()["items"]
    assert {item["id"] for item in listed} == made
    for item in made:
        answer = await client.patch(f"/items/{item}", json={"title": "seen"}, headers=root)
        assert answer.json()["title"] == "seen"


async def test_pages_show_every_item_once(client: httpx2.AsyncClient, alice: Headers) -> None:
    made = [await create(client, alice, f"Item {i}") for i in range(7)]
    seen: list[str] = []
    after: dict[str, str] = {}
    sizes = []
    while True:
        page = (await client.get("/items", params={"limit": "3", **after}, headers=alice)).json()
        seen += [item["id"] for item in page["items"]]
        sizes.append(len(page["items"]))
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert seen == made
    assert sizes == [3, 3, 1]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"title": ""}',
        b'{"title": null}',
        b'{"title": NaN}',
        b'{"title": "a\\u0000b"}',
        b'{"title": "\\ud800"}',
        b'{"title": 1}',
        b'{"title": "x", "description": NaN}',
        b'{"title": "%s"}' % (b"x" * 201),
        b"[" * 100_000,
        b'{"title":' * 20_000,
        b"\xff",
    ],
)
async def test_bad_bodies_are_refused_without_an_echo(
    client: httpx2.AsyncClient, alice: Headers, body: bytes
) -> None:
    headers = {**alice, "Content-Type": "application/json"}
    for answer in (
        await client.post("/items", content=body, headers=headers),
        await client.patch(f"/items/{uuid.uuid4()}", content=body, headers=headers),
    ):
        assert answer.status_code in {400, 422}, answer.text
        assert "detail" in answer.json()
        assert "input" not in answer.text


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "after=x", "after=%00"])
async def test_bad_queries_are_422(client: httpx2.AsyncClient, alice: Headers, query: str) -> None:
    assert (await client.get(f"/items?{query}", headers=alice)).status_code == 422


async def test_a_path_that_is_no_id_is_not_echoed(
    client: httpx2.AsyncClient, alice: Headers
) -> None:
    answer = await client.get("/items/qqq", headers=alice)
    assert answer.status_code == 422
    assert "q`" not in answer.text


async def test_too_large_a_body_is_413(client: httpx2.AsyncClient, alice: Headers) -> None:
    answer = await client.post("/items", json={"title": "x" * 1_000_000}, headers=alice)
    assert answer.status_code == 413
    assert "detail" in answer.json()
