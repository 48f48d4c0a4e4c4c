"""oidc-client-ts, unmodified, signs a person in to a page of another origin, in a real browser."""

import subprocess
from pathlib import Path
from shutil import copy
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse
from starlette.routing import Route

from tests.conftest import SECRET
from tests.support.apps import serving_app
from tests.support.browser import page_of
from tests.support.clients import need
from tests.support.factories import PASSWORD
from tests.support.processes import command, free_port, serving

pytestmark = [pytest.mark.browser, pytest.mark.npm]
CLIENTS = Path(__file__).parent / "npm"
LIBRARY = "node_modules/oidc-client-ts/dist/browser/oidc-client-ts.min.js"
PAGE = """<!doctype html><title>A single-page app</title><h1>An app</h1>
<script src="/library.js"></script><script>
const manager = new oidc.UserManager({
  authority: "ISSUER", client_id: "spa", scope: "openid profile read:items offline_access",
  redirect_uri: `${location.origin}/callback`, post_logout_redirect_uri: `${location.origin}/`,
  loadUserInfo: true,
});
async function items() {
  const user = await manager.getUser();
  const headers = { Authorization: `Bearer ${user.access_token}` };
  return (await fetch("ISSUER/items", { headers })).status;
}
</script>"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("npm")
    folder = tmp_path_factory.mktemp("spa")
    for name in ("package.json", "package-lock.json"):
        copy(CLIENTS / name, folder)
    subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=folder, check=True, capture_output=True)
    return folder / LIBRARY


def spa(issuer: str, library: Path) -> Starlette:
    """Return an app of one page, for every address."""

    async def show(_: Request) -> HTMLResponse:
        return HTMLResponse(PAGE.replace("ISSUER", issuer))

    async def script(_: Request) -> FileResponse:
        return FileResponse(library)

    return Starlette(routes=[Route("/library.js", script), Route("/{path:path}", show)])


def sign_in(page: Page) -> None:
    """Show the password, and agree."""
    page.get_by_label("Username").fill("alice")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Allow").click()
    expect(page.get_by_role("heading", name="An app")).to_be_visible()


@pytest.fixture
async def settings(own_database_url: str) -> dict[str, Any]:
    """A service's settings, with alice and the app in its database."""
    port, origin = free_port(), f"http://127.0.0.1:{free_port()}"
    kept: dict[str, Any] = {"database_url": own_database_url, "secret_keys": SECRET}
    await command("user", "create", "alice", "--scope", "read:items", stdin=PASSWORD, **kept)
    words = ("client", "create", "An app", "--client-id", "spa")
    back = ("--redirect-uri", f"{origin}/callback", "--post-logout-redirect-uri", f"{origin}/")
    await command(*words, *back, **kept)
    return {**kept, "port": port, "cors_origins": origin}


def test_oidc_client_ts_signs_a_person_in_renews_and_signs_out(
    settings: dict[str, Any], library: Path
) -> None:
    origin = urlsplit(settings["cors_origins"])
    with (
        serving(**settings) as service,
        serving_app(spa(service.url, library), origin.port) as url,
        page_of(service, origin.netloc) as page,
    ):
        page.goto(url)
        page.evaluate("() => { manager.signinRedirect() }")
        sign_in(page)
        user = page.evaluate("manager.signinRedirectCallback()")
        assert user["profile"]["preferred_username"] == "alice"
        assert page.evaluate("items()") == 200
        renewed = page.evaluate("manager.signinSilent()")
        assert renewed["access_token"] != user["access_token"]
        assert page.evaluate("items()") == 200
        page.evaluate("manager.revokeTokens()")
        stale = {"Authorization": f"Bearer {renewed['access_token']}"}
        assert httpx2.get(f"{service.url}/items", headers=stale).status_code == 401
        page.evaluate("() => { manager.signoutRedirect() }")
        page.wait_for_url(f"{url}/")
        page.goto(f"{service.url}/account")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
