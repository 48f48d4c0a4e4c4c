"""What every answer has, errors too, and which hosts are answered."""

import re
import uuid
from dataclasses import replace
from datetime import timedelta

import httpx2
import pytest
from fastapi import Request
from pydantic import SecretStr

from app.api.middleware import API_CONTENT_POLICY
from app.main import create_app
from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.answers import HARDENING
from tests.support.factories import bearer, make_user

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
METRICS_TOKEN = "a-metrics-token-for-the-tests-0123456789"


def client_with(runtime: Runtime, **settings: object) -> httpx2.AsyncClient:
    return client_of(replace(runtime, settings=runtime.settings.model_copy(update=settings)))


def is_hardened(answer: httpx2.Response) -> bool:
    """Whether each of the headers is there, once."""
    once = [answer.headers.get_list(name) == [value] for name, value in HARDENING.items()]
    (policy,) = answer.headers.get_list("content-security-policy")
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    return all(once) and "default-src 'none'" in policy and "frame-ancestors 'none'" in policy


async def test_every_route_sends_the_hardening(client: httpx2.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    asked = 0
    for path, methods in paths.items():
        for method in methods:
            url = re.sub(r"{\w+}", str(uuid.uuid4()), path)
            assert is_hardened(await client.request(method, url)), (method, path)
            asked += 1
    assert asked >= 30


async def test_errors_and_pages_send_the_hardening(runtime: Runtime) -> None:
    app = create_app(runtime.settings)
    app.state.runtime = runtime

    @app.get("/crash")
    async def crash() -> None:
        raise ZeroDivisionError

    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://scopegate.test") as client:
        statuses = {}
        for method, path, body in (
            ("GET", "/nowhere", b""),
            ("GET", "/token", b""),
            ("POST", "/token", b"x" * 300_000),
            ("GET", "/crash", b""),
            ("GET", "/docs", b""),
            ("GET", "/docs/assets/swagger-ui.css", b""),
            ("GET", "/docs/assets/none", b""),
            ("GET", "/console", b""),
            ("GET", "/openapi.json", b""),
        ):
            answer = await client.request(method, path, content=body, headers=FORM)
            assert is_hardened(answer), path
            statuses[method, path] = answer.status_code
        assert list(statuses.values()) == [404, 405, 413, 500, 200, 200, 404, 200, 200]
        own = (await client.get("/health/live")).headers["content-security-policy"]
        assert own == API_CONTENT_POLICY.decode()
        pages = [(await client.get(path)).headers for path in ("/docs", "/console")]
        for headers in pages:
            scripts = re.findall("script-src ([^;]+)", headers["content-security-policy"])
            assert "unsafe" not in scripts[0]


async def test_an_answer_to_a_request_with_credentials_is_not_stored(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    token = await bearer(client, await make_user(runtime, "read:items", "write:items"))
    json = {"Content-Type": "application/json"}
    statuses = []
    for method, path, body in (
        ("GET", "/users/me", b""),
        ("GET", "/nowhere", b""),
        ("PUT", "/items", b""),
        ("POST", "/items", b"x" * 300_000),
        ("POST", "/items", b"{"),
        ("GET", "/users", b""),
        ("GET", "/.well-known/jwks.json", b""),
        ("GET", "/health/live", b""),
        ("GET", "/console", b""),
        ("GET", "/docs/assets/swagger-ui.css", b""),
        ("POST", "/token", b""),
    ):
        for given in (token, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp5"}):
            answer = await client.request(method, path, content=body, headers=json | given)
            assert answer.headers.get_list("cache-control") == ["no-store"], (method, path)
            if given is token:
                statuses.append(answer.status_code)
    assert statuses == [200, 404, 405, 413, 422, 403, 200, 200, 200, 200, 400]
    assert "cache-control" not in (await client.get("/health/live")).headers
    assert (await client.get("/console")).headers["cache-control"] == "no-cache"


async def test_cookies_reach_no_route(runtime: Runtime) -> None:
    app = create_app(runtime.settings)

    @app.get("/cookies")
    async def cookies(request: Request) -> list[str]:
        return [name for name in request.headers if name in {"cookie", "x-other"}]

    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://scopegate.test") as client:
        for cookie in ("a=b", "a;" * 15_000, ""):
            headers = {"Cookie": cookie, "X-Other": "x"}
            assert (await client.get("/cookies", headers=headers)).json() == ["x-other"]


async def test_https_is_insisted_on_only_where_it_is_set(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    assert "strict-transport-security" not in (await client.get("/health/live")).headers
    async with client_with(runtime, hsts=timedelta(days=365)) as client:
        answer = await client.get("/nowhere")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("auth.example", 200),
        ("auth.example:8000", 200),
        ("a.internal.example", 200),
        ("internal.example.evil.example", 400),
        ("evil.example", 400),
        ("10.0.0.7:8000", 400),
    ],
)
async def test_only_the_hosts_that_are_set_are_answered_and_probes_by_address(
    runtime: Runtime, host: str, status: int
) -> None:
    hosts = ("auth.example", "*.internal.example")
    token = SecretStr(METRICS_TOKEN)
    async with client_with(runtime, trusted_hosts=hosts, metrics_token=token) as client:
        answer = await client.get("/openapi.json", headers={"Host": host})
        assert answer.status_code == status
        assert is_hardened(answer)
        assert (await client.get("/health/live", headers={"Host": host})).status_code == 200
        scrape = {"Host": host, "Authorization": f"Bearer {METRICS_TOKEN}"}
        assert (await client.get("/metrics", headers=scrape)).status_code == 200
        assert (await client.get("/metrics", headers={"Host": host})).status_code == 401
        below = await client.get("/metrics/below", headers=scrape)
        assert below.status_code == (404 if status == 200 else 400)


async def test_any_host_is_answered_by_default(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/openapi.json", headers={"Host": "evil.example"})).status_code == 200
