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
