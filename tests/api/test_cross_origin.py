"""Pages of other origins: any may sign in and read metadata and keys; the rest is by setting."""

from dataclasses import replace
from datetime import timedelta

import httpx2
import pytest

from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.factories import Someone, bearer, login

ORIGIN = "https://app.example"
APP = "capacitor://localhost"
OPEN = ["/token", "/revoke", "/.well-known/oauth-authorization-server", "/.well-known/jwks.json"]
EXPOSED = "WWW-Authenticate, Retry-After, X-Request-Id"
WHAT_CLIENTS_SEND = [
    "authorization, content-type",
    "X-Requested-With",
    "traceparent, tracestate",
    "cache-control, pragma",
    "if-none-match",
    "sentry-trace, baggage",
    "x-csrf-token, x-api-version, accept-language",
    "ngsw-bypass",
]


def client_for(runtime: Runtime, *origins: str, **settings: object) -> httpx2.AsyncClient:
    changes = {"cors_origins": origins, **settings}
    return client_of(replace(runtime, settings=runtime.settings.model_copy(update=changes)))


def cors_headers(answer: httpx2.Response) -> dict[str, str]:
    return {
        name: value
        for name, value in answer.headers.items()
        if name.startswith("access-control-") or name == "vary"
    }


async def preflight(
    client: httpx2.AsyncClient, path: str, *, origin: str, method: str, headers: str = ""
) -> httpx2.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    if headers:
        asked["Access-Control-Request-Headers"] = headers
    return await client.options(path, headers=asked)


@pytest.mark.parametrize("path", ["/users/me", "/introspect", "/forward-auth", "/health/live"])
async def test_pages_of_other_origins_are_told_nothing_by_default(
    client: httpx2.AsyncClient, path: str
) -> None:
    assert cors_headers(await client.get(path, headers={"Origin": ORIGIN})).keys() <= {"vary"}
    answer = await preflight(client, path, origin=ORIGIN, method="POST")
    assert cors_headers(answer).keys() <= {"vary"}


@pytest.mark.parametrize("path", OPEN)
@pytest.mark.parametrize("origin", [ORIGIN, APP, "null", "http://192.168.0.7:5173"])
async def test_any_origin_may_sign_in_sign_out_and_read_metadata_and_keys(
    client: httpx2.AsyncClient, path: str, origin: str
) -> None:
    method = "GET" if path.startswith("/.well-known/") else "POST"
    for headers in WHAT_CLIENTS_SEND:
        answer = await preflight(client, path, origin=origin, method=method, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-allow-headers"] == headers
        assert method in answer.headers["access-control-allow-methods"]
    answer = await client.request(method, path, headers={"Origin": origin})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-expose-headers"] == EXPOSED
    assert "access-control-allow-credentials" not in answer.headers


async def test_a_page_of_any_origin_reads_its_tokens_and_its_refusals(
    client: httpx2.AsyncClient, alice: Someone
) -> None:
    client.headers["Origin"] = ORIGIN
    for password, status in (("correct horse battery staple", 200), ("wrong", 400)):
        answer = await login(client, alice, password=password)
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("headers", WHAT_CLIENTS_SEND)
async def test_pages_of_the_origins_that_are_set_may_send_any_header(
    runtime: Runtime, headers: str
) -> None:
    async with client_for(runtime, ORIGIN, APP) as client:
        for origin in (ORIGIN, APP):
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
                answer = await preflight(
                    client, "/items", origin=origin, method=method, headers=headers
                )
                assert answer.status_code == 200
                assert answer.headers["access-control-allow-origin"] == origin
                assert method in answer.headers["access-control-allow-methods"]
                assert answer.headers["access-control-allow-headers"] == headers
                assert "access-control-allow-credentials" not in answer.headers


async def test_pages_of_the_origins_that_are_set_read_what_they_need_and_others_nothing(
    runtime: Runtime,
) -> None:
    async with client_for(runtime, ORIGIN, "http://localhost:3000") as client:
        refused = await client.get("/users/me", headers={"Origin": ORIGIN})
        assert refused.status_code == 401
        assert cors_headers(refused) == {
            "access-control-allow-origin": ORIGIN,
            "access-control-expose-headers": EXPOSED,
            "vary": "Origin",
        }
        for other in ("https://evil.example", "https://app.example.evil.example", "null"):
            answer = await client.get("/users/me", headers={"Origin": other})
            assert "access-control-allow-origin" not in answer.headers
            answer = await preflight(client, "/items", origin=other, method="GET")
            assert answer.status_code == 400
            assert "access-control-allow-origin" not in answer.headers


async def test_a_browsers_question_passes_no_proxy(runtime: Runtime, alice: Someone) -> None:
    async with client_for(runtime, ORIGIN) as client:
        asked = await preflight(client, "/forward-auth", origin=ORIGIN, method="GET")
        assert asked.status_code == 401
        token = await bearer(client, alice)
        assert (await client.options("/forward-auth", headers=token)).status_code == 200


@pytest.mark.parametrize(
    ("publication", "max_age"), [(300, 150), (0, 0), (1, 0), (60, 30), (86400, 300)]
)
async def test_metadata_and_keys_are_kept_for_less_than_a_key_is_published(
    runtime: Runtime, publication: int, max_age: int
) -> None:
    async with client_for(runtime, key_publication=timedelta(seconds=publication)) as client:
        for path in ("/.well-known/oauth-authorization-server", "/.well-known/jwks.json"):
            answer = await client.get(path)
            assert answer.headers["cache-control"] == f"max-age={max_age}"
            assert max_age < publication or publication == 0 == max_age
            # What a cache keeps for one page is good for the next, of whichever origin.
            assert answer.headers["vary"] == "Origin"
