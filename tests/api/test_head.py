"""Every GET answers HEAD (RFC 9110 §9.1): the same status and headers, and no body."""

import re
import uuid
from http.client import HTTPConnection
from urllib.parse import urlsplit

import httpx2
import pytest

from app.main import create_app
from app.runtime import Runtime
from tests.conftest import SECRET
from tests.support.factories import bearer, make_user
from tests.support.processes import serving

PAGES = ("/docs", "/console", "/openapi.json", "/docs/assets/swagger-ui.css", "/metrics")
OF_THE_REQUEST = {"x-request-id"}


def paths_that_take_get(runtime: Runtime) -> list[str]:
    declared = create_app(runtime.settings).openapi()["paths"]
    return [path for path, operations in declared.items() if "get" in operations]


async def test_every_get_answers_head_with_the_same_status_and_headers(
    client: httpx2.AsyncClient, runtime: Runtime, root: dict[str, str]
) -> None:
    asked = 0
    for path in (*paths_that_take_get(runtime), *PAGES):
        url = re.sub(r"{\w+}", str(uuid.uuid4()), path)
        for headers in (root, {}, {"Authorization": "Bearer forged"}):
            get = await client.get(url, headers=headers)
            head = await client.head(url, headers=headers)
            assert head.status_code == get.status_code, url
            told, same = dict(head.headers), dict(get.headers)
            assert {k: told[k] for k in told.keys() - OF_THE_REQUEST} == {
                k: same[k] for k in same.keys() - OF_THE_REQUEST
            }, url
            asked += 1
    assert asked >= 3 * 18


async def test_head_is_refused_like_get_and_to_what_no_get_answers(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    token = await bearer(client, await make_user(runtime, "read:items"))
    assert (await client.head("/users", headers=token)).status_code == 403
    assert (await client.head("/items?limit=0", headers=token)).status_code == 422
    for path in ("/token", "/revoke", "/introspect", "/users/me/password"):
        answer = await client.head(path, headers=token)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert (await client.head("/nowhere", headers=token)).status_code == 404


def test_head_stays_out_of_the_openapi_document(runtime: Runtime) -> None:
    operations = create_app(runtime.settings).openapi()["paths"].values()
    assert {method for each in operations for method in each} == {
        *("get", "post", "put", "patch", "delete")
    }


@pytest.mark.system
async def test_a_connection_goes_on_after_head(own_database_url: str) -> None:
    with serving(database_url=own_database_url, secret_keys=SECRET) as service:
        connection = HTTPConnection(urlsplit(service.url).netloc, timeout=30)
        for path in ("/health/live", "/openapi.json", "/.well-known/jwks.json", "/users/me"):
            answers = []
            for method in ("HEAD", "GET", "HEAD"):
                connection.request(method, path)
                answer = connection.getresponse()
                answers.append((answer.status, answer.headers["Content-Length"]))
                assert (answer.read() == b"") == (method == "HEAD"), (method, path)
            assert len(set(answers)) == 1, path
        connection.close()
