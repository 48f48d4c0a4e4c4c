"""/docs: a working Authorize button that lists the scopes, and no other host asked."""

import re
from typing import Any

import httpx2

from app.access.scopes import SHIPPED
from app.main import create_app
from app.settings import Settings
from tests.support.factories import PASSWORD, Someone


async def test_docs_come_from_this_service_alone(client: httpx2.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assert "http" not in re.sub(r"https?://scopegate.test", "", page.text)
    for path in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert path.startswith("docs/assets/"), "relative, below whatever path a proxy adds"
        assert (await client.get(f"/{path}")).status_code == 200
    policy = dict(
        each.split(" ", 1) for each in page.headers["content-security-policy"].split("; ")
    )
    assert policy["script-src"] == "'self'", "no script in the page, and none of another host"


async def test_openapi_lists_the_scopes_and_where_tokens_come_from(
    client: httpx2.AsyncClient,
) -> None:
    document = (await client.get("/openapi.json")).json()
    scheme = document["components"]["securitySchemes"]["OAuth2PasswordBearer"]
    code = {"scopes": SHIPPED, "authorizationUrl": "authorize", "tokenUrl": "token"}
    password = {"scopes": SHIPPED, "tokenUrl": "token"}
    assert scheme["flows"] == {"password": password, "authorizationCode": code}


async def test_openapi_does_not_tell_of_the_password_grant_where_it_is_off() -> None:
    document = create_app(Settings(_env_file=None, password_grant=False)).openapi()
    scheme = document["components"]["securitySchemes"]["OAuth2PasswordBearer"]
    assert list(scheme["flows"]) == ["authorizationCode"]


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


async def operations_of(client: httpx2.AsyncClient) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    document = (await client.get("/openapi.json")).json()
    return document, [each for path in document["paths"].values() for each in path.values()]


async def test_operations_have_summaries_and_names_fit_for_generated_clients(
    client: httpx2.AsyncClient,
) -> None:
    document, operations = await operations_of(client)
    ids = [each["operationId"] for each in operations]
    assert len(ids) == len(set(ids))
    assert [each for each in ids if not re.fullmatch(r"[a-z]+(_[a-z]+)+", each)] == []
    assert {"list_users", "issue_token", "grant_scope", "end_user_session"} <= set(ids)
    for each in operations:
        assert each["summary"] != each["description"]
        assert each["summary"].lower().replace(" ", "_") == each["operationId"]
    names = list(document["components"]["schemas"])
    assert [each for each in names if not re.fullmatch(r"([A-Z][a-z]*)+", each)] == []


async def test_every_tag_is_described(client: httpx2.AsyncClient) -> None:
    document, operations = await operations_of(client)
    described = {each["name"]: each["description"] for each in document["tags"]}
    assert {tag for each in operations for tag in each["tags"]} == set(described)
    assert all(described.values())


async def test_every_body_has_an_example_that_fits(client: httpx2.AsyncClient) -> None:
    document, operations = await operations_of(client)
    schemas = document["components"]["schemas"]
    shown = 0
    for operation in operations:
        for content in operation.get("requestBody", {"content": {}})["content"].values():
            options = content["schema"].get("anyOf", [content["schema"]])
            for schema in options:
                if "$ref" in schema:
                    schema = schemas[schema["$ref"].rpartition("/")[2]]
                    (example,) = schema["examples"]
                    assert set(example) <= set(schema["properties"])
                    assert set(schema.get("required", [])) <= set(example)
                    shown += 1
                elif "properties" in schema:
                    assert all("examples" in each for each in schema["properties"].values())
                    shown += 1
    assert shown >= 11


async def test_every_refusal_has_an_example_in_the_form_of_its_route(
    client: httpx2.AsyncClient,
) -> None:
    document = (await client.get("/openapi.json")).json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if int(status) < 400:
                    continue
                content = answer["content"]["application/json"]
                named = content.get("examples", {"": {"value": content.get("example")}})
                for example in named.values():
                    oauth = path in {"/token", "/revoke", "/introspect"}
                    fields = {"error", "error_description"} if oauth else {"detail"}
                    assert set(example["value"]) == fields, (path, status)


async def test_the_examples_of_refusals_are_what_is_answered(
    client: httpx2.AsyncClient, root: dict[str, str], alice: Someone
) -> None:
    document = (await client.get("/openapi.json")).json()

    def example(method: str, path: str, status: int) -> list[Any]:
        answer = document["paths"][path][method]["responses"][str(status)]
        content = answer["content"]["application/json"]
        named = content.get("examples", {"": {"value": content.get("example")}})
        return [each["value"] for each in named.values()]

    nobody = "01890000-0000-7000-8000-00000000000f"
    wrong = {"username": "alice", "password": "wrong wrong wrong"}
    asked: list[tuple[str, str, str, dict[str, Any], int]] = [
        ("get", "/users/{user_id}", f"/users/{nobody}", {}, 404),
        ("get", "/items/{item_id}", f"/items/{nobody}", {}, 404),
        ("post", "/users", "/users", {"json": {"username": "alice", "password": PASSWORD}}, 409),
        ("post", "/users", "/users", {"json": {"password": PASSWORD}}, 422),
        ("post", "/users", "/users", {"json": {"username": "bob", "password": "short"}}, 422),
        ("post", "/token", "/token", {"data": wrong}, 400),
        ("post", "/revoke", "/revoke", {"data": {"token": ""}}, 400),
        ("delete", "/scopes/{name}", "/scopes/no:such", {}, 404),
        ("put", "/scopes/{name}", "/scopes/admin", {"json": {"description": "x"}}, 409),
    ]
    for method, declared, path, sent, status in asked:
        answer = await client.request(method, path, headers=root, **sent)
        assert answer.status_code == status, (path, answer.text)
        assert answer.json() in example(method, declared, status), path


async def test_the_root_leads_to_the_console_and_the_documentation(
    client: httpx2.AsyncClient,
) -> None:
    page = await client.get("/")
    assert page.status_code == 200
    links = re.findall(r'href="([^"]+)"', page.text)
    assert {"console", "docs"} <= set(links)
    for link in links:
        assert not link.startswith(("/", "http")), "relative, below whatever path a proxy adds"
        page = await client.get(f"/{link}", follow_redirects=True)
        assert page.status_code == 200, "the account too: by its sign-in page"
