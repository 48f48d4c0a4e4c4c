"""The example's Swagger UI in a real browser: it signs in at Scopegate, which is another origin."""

import re
from collections.abc import AsyncIterator
from importlib.resources import files
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Route

from examples.resource_server.app import create_app
from scopegate_client import Scopegate
from tests.support.apps import serving_app
from tests.support.browser import page_of
from tests.support.factories import PASSWORD, Someone
from tests.support.orders import Beside, scopegate_beside
from tests.support.processes import eventually

pytestmark = pytest.mark.browser
FILES = {"swagger-ui-bundle.js", "swagger-ui.css"}
ELSEWHERE = ("cdn.jsdelivr.net", "fastapi.tiangolo.com")
"""Where FastAPI's own /docs has the files of Swagger UI and its icon from."""


@pytest.fixture
async def beside(server_url: str, template: None) -> AsyncIterator[Beside]:
    async with scopegate_beside(server_url) as beside:
        yield beside


@pytest.fixture
async def user(beside: Beside) -> Someone:
    return await beside.user()


def from_package(route: Route) -> None:
    """Answer with Swagger UI's own file, as the CDN does: the tests need no other host."""
    name = urlsplit(route.request.url).path.rpartition("/")[2]
    if name in FILES:
        route.fulfill(path=str(files("fastapi_swagger") / "resources" / name))
    else:
        route.fulfill(status=404)


def sign_in(page: Page, user: Someone, scope: str) -> None:
    """Press Authorize, fill the form, and tick one scope."""
    page.click("button.authorize")
    page.fill("#oauth_username", user.username)
    page.fill("#oauth_password", PASSWORD)
    page.click(f"label[for^='{scope}']")
    page.click(".auth-btn-wrapper button.authorize")
    page.wait_for_selector("button:has-text('Logout')")
    page.click("button.btn-done")


def execute(page: Page) -> str:
    """Press Execute, and return the status of the answer."""
    if page.is_visible(".btn-clear"):
        page.click(".btn-clear")
    page.click("button.execute")
    return page.inner_text(".live-responses-table tbody .response-col_status").split()[0]


def test_the_examples_swagger_ui_signs_in_at_scopegate_and_calls_its_route(
    beside: Beside, user: Someone
) -> None:
    scopegate = Scopegate(
        beside.service.url, client_id="orders", client_secret=beside.client_secret
    )
    with (
        serving_app(create_app(scopegate)) as url,
        page_of(beside.service, urlsplit(url).netloc, *ELSEWHERE) as page,
    ):
        page.route(re.compile("^https:"), from_package)
        page.goto(f"{url}/docs")
        page.click("#operations-default-orders_orders_get .opblock-summary-control")
        page.click("button.try-out__btn")
        assert execute(page) == "401"
        sign_in(page, user, "read:orders")
        assert execute(page) == "200"
        beside.administer("DELETE", f"/users/{user.id}/grants/read:orders")
        eventually(lambda: execute(page) == "403")
