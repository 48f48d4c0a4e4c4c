"""/docs: a working Authorize button that lists the scopes, and no other host asked."""

import re

import httpx2

from app.access.scopes import SHIPPED


async def test_docs_come_from_this_service_alone(client: httpx2.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assert "http" not in re.sub(r"https?://scopegate.test", "", page.text)
    for path in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert path.startswith("/docs/assets/")
        assert (await client.get(path)).status_code == 200


async def test_openapi_lists_the_scopes_and_where_tokens_come_from(
    client: httpx2.AsyncClient,
) -> None:
    document = (await client.get("/openapi.json")).json()
    scheme = document["components"]["securitySchemes"]["OAuth2PasswordBearer"]
    assert scheme["flows"] == {"password": {"scopes": SHIPPED, "tokenUrl": "token"}}


async def test_openapi_declares_refusals_and_the_token_form(client: httpx2.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    token = paths["/token"]["post"]
    assert "application/x-www-form-urlencoded" in token["requestBody"]["content"]
    assert {"200", "400", "401", "413", "429", "503"} <= set(token["responses"])
    for path in ("/revoke", "/introspect", "/users/me/password"):
        assert "429" in paths[path]["post"]["responses"]
    assert "422" not in token["responses"]
    item = paths["/items/{item_id}"]["patch"]
    assert {"200", "400", "401", "403", "404", "413", "422", "503"} <= set(item["responses"])


async def test_openapi_declares_both_ways_to_ask_for_introspection(
    client: httpx2.AsyncClient,
) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["components"]["securitySchemes"]["ClientSecretBasic"] == {
        "type": "http",
        "scheme": "basic",
    }
    assert document["paths"]["/introspect"]["post"]["security"] == [
        {"OAuth2PasswordBearer": ["introspect"]},
        {"ClientSecretBasic": ["introspect"]},
    ]


async def test_openapi_declares_the_headers_that_clients_go_by(client: httpx2.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    answers = [
        (path, status, answer.get("headers", {}))
        for path, operations in paths.items()
        for operation in operations.values()
        for status, answer in operation["responses"].items()
    ]
    for path, status, headers in answers:
        assert ("Retry-After" in headers) == (status in {"429", "503"})
        assert ("WWW-Authenticate" in headers) == (status in {"401", "403"})
        assert ("Cache-Control" in headers) == (path in {"/token", "/revoke", "/introspect"})


async def test_openapi_says_where_the_database_may_be_missing(client: httpx2.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    without = {
        path
        for path, operations in paths.items()
        for operation in operations.values()
        if "503" not in operation["responses"]
    }
    assert without == {"/health/live"}, "it alone asks nothing"
