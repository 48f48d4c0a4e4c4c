"""Registering, changing and deleting clients."""

import asyncio
from typing import Any

import httpx2
import pytest

from app.access.client_registry import ShippedClient, change_client
from app.identity.account_writes import create_service
from app.runtime import Runtime
from tests.support.audit import told
from tests.support.browsing import register
from tests.support.factories import OPERATOR, bearer, make_user
from tests.support.locks import until_waiting

URIS = ["https://app.example/callback"]
NEW = {"name": "An app", "client_id": "app", "redirect_uris": URIS}


@pytest.fixture
async def some(client: httpx2.AsyncClient, runtime: Runtime) -> dict[str, str]:
    """The header of somebody who may register clients, and read items."""
    user = await make_user(runtime, "read:clients", "write:clients", "read:items")
    return await bearer(client, user)


async def post(client: httpx2.AsyncClient, header: dict[str, str], **changes: Any) -> Any:
    return await client.post("/clients", json={**NEW, **changes}, headers=header)


async def test_a_client_is_registered_read_listed_changed_and_deleted(
    client: httpx2.AsyncClient, root: dict[str, str], runtime: Runtime
) -> None:
    made = await post(client, root)
    assert made.status_code == 201
    assert made.json()["redirect_uris"] == URIS
    assert made.json()["client_secret"] is None
    shown = (await client.get("/clients/app", headers=root)).json()
    assert shown["scopes"] is None
    await post(client, root, client_id="b")
    page = (await client.get("/clients?limit=1", headers=root)).json()
    assert ([each["client_id"] for each in page["items"]], page["next"]) == (["app"], "app")
    page = (await client.get("/clients?limit=3&after=app", headers=root)).json()
    rest = ["b", "scopegate-console", "scopegate-docs"]
    assert ([each["client_id"] for each in page["items"]], page["next"]) == (rest, None)
    change = {
        "name": "Another",
        "scopes": ["read:items"],
        "refresh_grace": 20,
        "post_logout_redirect_uris": ["https://app.example/bye"],
        "id_token_signed_response_alg": "ES256",
    }
    changed = await client.patch("/clients/app", json=change, headers=root)
    assert {name: changed.json()[name] for name in change} == change
    assert changed.json()["redirect_uris"] == URIS, "what is absent stays"
    assert (await client.delete("/clients/app", headers=root)).status_code == 204
    for method in ("GET", "PATCH", "DELETE"):
        body: dict[str, str] | None = {} if method == "PATCH" else None
        answer = await client.request(method, "/clients/app", json=body, headers=root)
        assert answer.status_code == 404
    async with runtime.sessions() as db:
        (_, _, detail), (_, _, another) = await told(db, "client.created")
        assert another["client_id"] == "b"
        assert detail == {
            "client_id": "app",
            "name": "An app",
            "redirect_uris": URIS,
            "post_logout_redirect_uris": [],
            "scopes": None,
            "confidential": False,
            "trusted": False,
            "refresh_grace": None,
            "id_token_signed_response_alg": "RS256",
        }
        ((_, _, detail),) = await told(db, "client.changed")
        assert detail == {"client_id": "app", **change}
        ((_, _, detail),) = await told(db, "client.deleted")
        assert detail == {"client_id": "app"}


@pytest.mark.parametrize("client_id", ["scopegate-console", "scopegate-docs"])
async def test_a_client_that_ships_is_shown_and_nobody_changes_or_deletes_it(
    client: httpx2.AsyncClient, root: dict[str, str], client_id: str
) -> None:
    shown = (await client.get(f"/clients/{client_id}", headers=root)).json()
    assert shown["trusted"]
    for method, body in (("PATCH", {"trusted": False}), ("DELETE", None)):
        answer = await client.request(method, f"/clients/{client_id}", json=body, headers=root)
        assert answer.status_code == 409
        assert answer.json() == {"detail": str(ShippedClient())}
    assert (await client.get(f"/clients/{client_id}", headers=root)).json() == shown


async def test_an_id_is_made_where_none_is_given(
    client: httpx2.AsyncClient, root: dict[str, str]
) -> None:
    first, second = [
        (await post(client, root, client_id=None)).json()["client_id"] for _ in range(2)
    ]
    assert first != second


async def test_ids_are_those_of_no_other_client_and_no_service_account(
    client: httpx2.AsyncClient, root: dict[str, str], runtime: Runtime
) -> None:
    async with runtime.work(OPERATOR) as work:
        await create_service(work, username="invoices")
    assert (await post(client, root)).status_code == 201
    for taken in ("app", "APP", "invoices", "Invoices"):
        assert (await post(client, root, client_id=taken)).status_code == 409
    service = {"username": "App", "kind": "service"}
    assert (await client.post("/users", json=service, headers=root)).status_code == 409
    for unfit in (
        "scopegate",
        "Scopegate",
        "https://app.example/x",
        "a/b",
        "a b",
        "ä",
        ".",
        "..",
        "a:b",
    ):
        assert (await post(client, root, client_id=unfit)).status_code == 422, unfit
    await client.delete("/clients/app", headers=root)
    assert (await post(client, root)).status_code == 201, "a deleted one's id is free"


async def test_a_confidential_client_is_a_service_account_whose_secret_is_shown_once(
    client: httpx2.AsyncClient, root: dict[str, str]
) -> None:
    made = (await post(client, root, confidential=True)).json()
    grant = {"grant_type": "client_credentials", "client_id": "app"}
    secret = {"client_secret": made["client_secret"]}
    assert (await client.post("/token", data=grant | secret)).status_code == 200
    shown = (await client.get("/clients/app", headers=root)).json()
    assert shown["confidential"]
    assert "client_secret" not in shown
    await client.delete("/clients/app", headers=root)
    assert (await client.post("/token", data=grant | secret)).status_code == 401


@pytest.mark.parametrize(
    "uri",
    [
        "http://app.example/callback",
        "https://app.example/callback#fragment",
        "https://user@app.example/callback",
        "https://user:secret@app.example/callback",
        "https://*.app.example/callback",
        "https://app.example/*",
        "https://app.example:65536/",
        "http://127.0.0.1:65536/",
        "https:///callback",
        "https://app.example\\@evil.example/",
        "https://app.example/a b",
        "https://app.example/\r\nSet-Cookie: a=b",
        "https://[2001:db8::1]/callback",
        "http://127.0.0.2/",
        "http://localhost.evil.example/",
        "http://127.0.0.1@evil.example/",
        "javascript:alert(1)",
        "data:text/html,x",
        "myapp:/callback",
        "com.example.app://user@host/",
        "com.example.app://user@host:80/",
        "com.example.app://user:secret@host?a=b",
        "com.example.app://@host",
        "/callback",
        "",
    ],
)
async def test_redirect_uris_that_could_lead_elsewhere_are_refused(
    client: httpx2.AsyncClient, root: dict[str, str], uri: str
) -> None:
    assert (await post(client, root, redirect_uris=[uri])).status_code == 422
    assert (await post(client, root, post_logout_redirect_uris=[uri])).status_code == 422
    assert (await post(client, root)).status_code == 201
    for name in ("redirect_uris", "post_logout_redirect_uris"):
        answer = await client.patch("/clients/app", json={name: [uri]}, headers=root)
        assert answer.status_code == 422


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example",
        "https://app.example:65535/callback?tenant=a",
        "http://127.0.0.1/callback",
        "http://127.0.0.1:8000/callback",
        "http://[::1]/",
        "http://localhost:3000",
        "com.example.app:/callback",
        "com.example.app://callback",
        "com.example.app://host/of@app",
        "com.example.app://host?of=me@app",
        "com.example.app:/of@app",
    ],
)
async def test_redirect_uris_of_web_sites_devices_and_apps_are_accepted(
    client: httpx2.AsyncClient, root: dict[str, str], uri: str
) -> None:
    assert (await post(client, root, redirect_uris=[uri])).status_code == 201


async def test_a_client_has_a_redirect_uri_a_name_and_registered_scopes(
    client: httpx2.AsyncClient, root: dict[str, str]
) -> None:
    unfit: dict[str, Any]
    for unfit in (
        {"redirect_uris": []},
        {"name": " "},
        {"name": "a\nb"},
        {"refresh_grace": 9},
        {"refresh_grace": 121},
        {"redirect_uris": [f"https://app.example/{n}" for n in range(21)]},
    ):
        assert (await post(client, root, **unfit)).status_code == 422, unfit
    assert (await post(client, root, scopes=["no:such"])).status_code == 404


# No climbing.


async def test_without_a_ceiling_given_it_is_what_the_caller_holds_now(
    client: httpx2.AsyncClient, some: dict[str, str]
) -> None:
    made = (await post(client, some)).json()
    assert made["scopes"] == ["read:clients", "read:items", "write:clients"]


async def test_nobody_registers_a_client_beyond_what_they_hold(
    client: httpx2.AsyncClient, some: dict[str, str]
) -> None:
    for beyond in (
        {"scopes": ["read:items", "read:users"]},
        {"scopes": ["admin"]},
        {"scopes": ["read:items"], "trusted": True},
    ):
        assert (await post(client, some, **beyond)).status_code == 403
    assert (await post(client, some, scopes=["read:items"])).status_code == 201


@pytest.mark.parametrize(
    "terms",
    [{"scopes": ["read:items", "read:users"]}, {"scopes": None}, {"scopes": [], "trusted": True}],
)
async def test_nobody_changes_or_deletes_a_client_beyond_what_they_hold(
    client: httpx2.AsyncClient, some: dict[str, str], runtime: Runtime, terms: dict[str, Any]
) -> None:
    """Else they could send its codes to themselves."""
    await register(runtime, **terms)
    mine = {"redirect_uris": ["https://evil.example/"]}
    change: dict[str, Any]
    for change in (mine, {"scopes": []}, {"name": "x"}, {"trusted": False}):
        answer = await client.patch("/clients/app", json=change, headers=some)
        assert answer.status_code == 403
    assert (await client.delete("/clients/app", headers=some)).status_code == 403
    assert (await client.get("/clients/app", headers=some)).json()["redirect_uris"] == URIS


async def test_nobody_raises_a_ceiling_beyond_what_they_hold(
    client: httpx2.AsyncClient, some: dict[str, str]
) -> None:
    await post(client, some, scopes=["read:items"])
    change: dict[str, Any]
    for change in ({"scopes": ["read:users"]}, {"trusted": True}):
        answer = await client.patch("/clients/app", json=change, headers=some)
        assert answer.status_code == 403
    answer = await client.patch("/clients/app", json={"scopes": None}, headers=some)
    assert "read:users" not in answer.json()["scopes"]


async def test_a_confidential_client_is_deleted_by_those_who_may_disable_its_account(
    client: httpx2.AsyncClient, some: dict[str, str], root: dict[str, str]
) -> None:
    made = await post(client, some, confidential=True, scopes=["read:items"])
    assert made.status_code == 201
    users = (await client.get("/users?q=app&kind=service", headers=root)).json()["items"]
    await client.put(f"/users/{users[0]['id']}/grants/read:audit", headers=root)
    assert (await client.delete("/clients/app", headers=some)).status_code == 403
    assert (await client.delete("/clients/app", headers=root)).status_code == 204


async def test_scopes_guard_the_routes(
    client: httpx2.AsyncClient, runtime: Runtime, root: dict[str, str]
) -> None:
    reader = await bearer(client, await make_user(runtime, "read:clients"))
    assert (await client.get("/clients", headers=reader)).status_code == 200
    assert (await post(client, reader)).status_code == 403
    writer = await bearer(client, await make_user(runtime, "write:clients"))
    assert (await client.get("/clients", headers=writer)).status_code == 403


async def test_of_two_changes_at_once_the_second_sees_what_the_first_changed(
    own_runtime: Runtime,
) -> None:
    await register(own_runtime)

    async def rename() -> None:
        async with own_runtime.work(OPERATOR) as work:
            await change_client(work, "app", {"name": "Another"})

    async with own_runtime.work(OPERATOR) as work:
        await change_client(work, "app", {"name": "Another"})
        second = asyncio.create_task(rename())
        await until_waiting(own_runtime, "transactionid")
    await second
    async with own_runtime.sessions() as db:
        assert len(await told(db, "client.changed")) == 1, "the second changed nothing"


async def test_a_refresh_grace_is_from_10_to_120_seconds(
    client: httpx2.AsyncClient, root: dict[str, str]
) -> None:
    for seconds in (10, 120):
        made = await post(client, root, client_id=f"app-{seconds}", refresh_grace=seconds)
        assert made.json()["refresh_grace"] == seconds


async def test_an_algorithm_that_signs_no_id_token_is_refused(
    client: httpx2.AsyncClient, root: dict[str, str]
) -> None:
    wrong = {"id_token_signed_response_alg": "HS256"}
    assert (await post(client, root, **wrong)).status_code == 422
    assert (await post(client, root)).status_code == 201
    assert (await client.patch("/clients/app", json=wrong, headers=root)).status_code == 422


async def test_a_change_that_changes_nothing_is_not_audited(runtime: Runtime) -> None:
    await register(runtime)
    async with runtime.work(OPERATOR) as work:
        await change_client(work, "app", {"name": "An app"})
    async with runtime.sessions() as db:
        assert await told(db, "client.changed") == []
