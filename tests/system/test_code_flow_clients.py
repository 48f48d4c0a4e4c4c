"""OAuth clients from PyPI, unmodified, which sign a person in by the authorization code flow."""

import asyncio
import secrets
import webbrowser
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.integrations.requests_client import OAuth2Session
from requests_oauthlib import OAuth2Session as RequestsOAuth2Session

from app.runtime import Runtime
from tests.conftest import SECRET, settings_for
from tests.support import databases
from tests.support.browsing import CALLBACK, PersonsBrowser, register
from tests.support.documents import Document
from tests.support.factories import Someone, make_user
from tests.support.processes import serving


@dataclass(frozen=True)
class Served:
    """A service that serves, a person who may read items there, and a confidential client."""

    url: str
    reader: Someone
    secret: str

    async def metadata(self) -> dict[str, str]:
        """What a client is configured by."""
        async with httpx2.AsyncClient(base_url=self.url) as client:
            found: dict[str, str] = (
                await client.get("/.well-known/oauth-authorization-server")
            ).json()
        return found

    async def come_back(self, url: str, to: str = CALLBACK) -> str:
        """Where the person's browser is led to from this address: they agree, if they are asked."""
        async with httpx2.AsyncClient(base_url=self.url) as client:
            browser = PersonsBrowser(client)
            await browser.sign_in(self.reader)
            answer = await client.get(f"/authorize?{urlsplit(url).query}")
            if answer.status_code == 200:
                answer = await browser.decide(answer)
        location: str = answer.headers["location"]
        assert location.startswith(to)
        return location


@pytest.fixture(scope="module")
async def served(server_url: str, template: None) -> AsyncIterator[Served]:
    name = await databases.clone_template(server_url)
    url = databases.database_url(server_url, name)
    async with Runtime.open(settings_for(url)) as runtime:
        reader = await make_user(runtime, "read:items")
        await register(runtime, "spa")
        await register(runtime, "orders-cli", redirect_uris=["http://127.0.0.1/callback"])
        backend = await register(runtime, "backend", confidential=True)
    assert backend.secret
    with serving(database_url=url, secret_keys=SECRET) as service:
        yield Served(service.url, reader, backend.secret)
    await databases.drop(server_url, name)


@pytest.mark.parametrize("client_id", ["spa", "backend"])
async def test_authlib_with_httpx_signs_a_person_in(served: Served, client_id: str) -> None:
    metadata, verifier = await served.metadata(), secrets.token_urlsafe(48)
    async with AsyncOAuth2Client(
        client_id,
        served.secret if client_id == "backend" else None,
        redirect_uri=CALLBACK,
        scope="read:items",
        code_challenge_method="S256",
        token_endpoint_auth_method="client_secret_basic" if client_id == "backend" else "none",
    ) as client:
        endpoint = metadata["authorization_endpoint"]
        url, state = client.create_authorization_url(endpoint, code_verifier=verifier)
        back = await served.come_back(url)
        token = await client.fetch_token(
            metadata["token_endpoint"],
            authorization_response=back,
            state=state,
            code_verifier=verifier,
        )
        assert token["scope"] == "read:items"
        assert (await client.get(f"{served.url}/items")).status_code == 200
        refreshed = await client.refresh_token(metadata["token_endpoint"])
        assert refreshed["access_token"] != token["access_token"]
        assert (await client.get(f"{served.url}/items")).status_code == 200


async def test_authlib_with_requests_signs_a_person_in(served: Served) -> None:
    metadata, verifier = await served.metadata(), secrets.token_urlsafe(48)
    with OAuth2Session(
        "spa",
        redirect_uri=CALLBACK,
        scope="read:items",
        code_challenge_method="S256",
        token_endpoint_auth_method="none",
    ) as client:
        endpoint = metadata["authorization_endpoint"]
        url, _ = client.create_authorization_url(endpoint, code_verifier=verifier)
        back = await served.come_back(url)
        token = client.fetch_token(
            metadata["token_endpoint"], authorization_response=back, code_verifier=verifier
        )
        assert token["scope"] == "read:items"
        assert client.get(f"{served.url}/items").status_code == 200


async def test_the_guides_command_line_tool_signs_a_person_in(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = Document("docs/how-to/add-a-command-line-tool.md").blocks("python")
    tool: dict[str, Any] = {}
    exec(block.text, tool)  # noqa: S102 - our own document
    tool["ISSUER"] = served.url
    loop = asyncio.get_running_loop()

    async def browse(url: str) -> None:
        back = await served.come_back(url, to="http://127.0.0.1:")
        async with httpx2.AsyncClient() as browser:
            assert (await browser.get(back)).status_code == 200

    def open_browser(url: str) -> None:
        asyncio.run_coroutine_threadsafe(browse(url), loop)

    monkeypatch.setattr(webbrowser, "open", open_browser)
    tokens = await asyncio.to_thread(tool["sign_in"], "read:items")
    assert tokens["scope"] == "read:items"


@pytest.mark.parametrize("client_id", ["spa", "backend"])
async def test_requests_oauthlib_signs_a_person_in(
    served: Served, plain_http: pytest.MonkeyPatch, client_id: str
) -> None:
    metadata = await served.metadata()
    with RequestsOAuth2Session(
        client_id, redirect_uri=CALLBACK, scope="read:items", pkce="S256"
    ) as session:
        url, _ = session.authorization_url(metadata["authorization_endpoint"])
        back = await served.come_back(url)
        token = session.fetch_token(
            metadata["token_endpoint"],
            authorization_response=back,
            client_secret=served.secret if client_id == "backend" else None,
        )
        assert token.scope == "read:items"
        assert session.get(f"{served.url}/items").status_code == 200
