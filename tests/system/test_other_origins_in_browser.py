"""Pages of other origins in a real browser: another service's Swagger UI signs in here."""

from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI, Security
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.security import OAuth2PasswordBearer
from fastapi.staticfiles import StaticFiles
from starlette.responses import HTMLResponse

from tests.conftest import SECRET
from tests.support.apps import serving_app
from tests.support.browser import page_of
from tests.support.factories import PASSWORD
from tests.support.processes import command, free_port, serving

pytestmark = pytest.mark.browser
ASK = """async ([url, method, headers]) => {
    const answer = await fetch(url, { method, headers });
    return [answer.status, answer.headers.get("www-authenticate")];
}"""
HEADERS = [
    {"X-Requested-With": "XMLHttpRequest"},
    {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
    {"Cache-Control": "no-cache", "If-None-Match": "x"},
]


@pytest.fixture
async def settings(own_database_url: str) -> dict[str, Any]:
    """A service's settings, with alice in its database."""
    settings: dict[str, Any] = {"database_url": own_database_url, "secret_keys": SECRET}
    await command("user", "create", "alice", "--scope", "read:items", stdin=PASSWORD, **settings)
    return settings


@pytest.fixture
def port_of_scopegate() -> int:
    return free_port()


@pytest.fixture
def orders(port_of_scopegate: int) -> Iterator[str]:
    """The host and port of another service, whose Swagger UI gets its tokens from Scopegate."""
    url = f"http://127.0.0.1:{port_of_scopegate}/token"
    scheme = OAuth2PasswordBearer(tokenUrl=url, scopes={"read:items": "Read items"})
    app = FastAPI(docs_url=None)
    app.mount("/assets", StaticFiles(packages=[("fastapi_swagger", "resources")]))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Orders",
            swagger_js_url="/assets/swagger-ui-bundle.js",
            swagger_css_url="/assets/swagger-ui.css",
            swagger_favicon_url="/assets/favicon-32x32.png",
        )

    async def list_orders(token: Annotated[str, Security(scheme)]) -> list[str]:
        return [f"a token of {len(token.split('.'))} parts"]

    app.add_api_route("/orders", list_orders)
    with serving_app(app) as url_of_orders:
        yield urlsplit(url_of_orders).netloc


def test_another_origins_swagger_ui_signs_in(
    settings: dict[str, Any], orders: str, port_of_scopegate: int
) -> None:
    with (
        serving(**settings, port=port_of_scopegate) as service,
        page_of(service, orders) as page,
    ):
        page.goto(f"http://{orders}/docs")
        page.click("button.authorize")
        page.fill("#oauth_username", "alice")
        page.fill("#oauth_password", PASSWORD)
        page.click(".auth-btn-wrapper button.authorize")
        page.wait_for_selector("button:has-text('Logout')")
        page.click("button.btn-done")
        page.click(".opblock-summary-control")
        page.click("button.try-out__btn")
        page.click("button.execute")
        answer = page.inner_text(".live-responses-table .highlight-code code")
        assert "a token of 3 parts" in answer


def test_a_page_of_an_origin_that_is_set_may_send_any_header_and_read_the_challenge(
    settings: dict[str, Any], orders: str, port_of_scopegate: int
) -> None:
    with (
        serving(**settings, port=port_of_scopegate, cors_origins=f"http://{orders}") as service,
        page_of(service, orders) as page,
    ):
        page.goto(f"http://{orders}/docs")
        for headers in HEADERS:
            for method, path, status in (
                ("GET", "/.well-known/jwks.json", 200),
                ("HEAD", "/health/ready", 200),
                ("GET", "/users/me", 401),
                ("PATCH", "/items/x", 401),
            ):
                asked = [service.url + path, method, headers]
                challenge = 'Bearer realm="scopegate"' if status == 401 else None
                assert page.evaluate(ASK, asked) == [status, challenge]
