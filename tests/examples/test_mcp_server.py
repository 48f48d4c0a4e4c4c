"""The `mcp` SDK's server and client, unmodified, beside a Scopegate that serves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from mcp.server.auth.settings import AuthSettings
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)
from mcp.shared.exceptions import MCPError
from starlette.applications import Starlette

from app.access.registry import register_scope
from app.runtime import Runtime
from scopegate_client import Scopegate
from scopegate_client.mcp import AnswerUnavailable, ScopegateTokenVerifier
from tests.conftest import SECRET, settings_for
from tests.support.apps import serving_app
from tests.support.browsing import PersonsBrowser, answered, register
from tests.support.described import describing, make_certificate
from tests.support.documents import Document
from tests.support.factories import OPERATOR, Someone
from tests.support.orders import WAYS, Beside, TakeAway, bearer, scopegate_beside
from tests.support.processes import PATIENCE, free_port, serving, until

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
async def beside(server_url: str, template: None) -> AsyncIterator[Beside]:
    async with scopegate_beside(server_url) as beside:
        yield beside


def mcp_app(scopegate: Scopegate, url: str = "http://127.0.0.1:8000/mcp") -> Starlette:
    """Return an MCP server with one tool, as the package's README has it."""
    server = MCPServer(
        "orders",
        token_verifier=ScopegateTokenVerifier(scopegate),
        auth=AuthSettings(
            issuer_url=scopegate.issuer,
            resource_server_url=url,
            required_scopes=["read:orders"],
            validate_token_resource=scopegate.audience == url,
        ),
    )

    @server.tool()
    def list_orders() -> list[str]:
        return ["Lamp"]

    app = server.streamable_http_app()
    app.add_middleware(AnswerUnavailable)
    of_the_sdk = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with scopegate.lifespan(), of_the_sdk(app):
            yield

    app.router.lifespan_context = lifespan
    return app


@asynccontextmanager
async def mcp_client(url: str, token: str) -> AsyncIterator[tuple[Client, list[int]]]:
    """Yield the SDK's client with this token, and the statuses of the answers that it gets."""
    statuses: list[int] = []

    async def note(response: httpx2.Response) -> None:
        statuses.append(response.status_code)

    async with (
        httpx2.AsyncClient(
            headers=bearer(token), timeout=PATIENCE, event_hooks={"response": [note]}
        ) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
    ):
        yield client, statuses


async def is_answered(client: Client) -> bool:
    """Whether the tool answers."""
    try:
        answer = await client.call_tool("list_orders")
    except MCPError:
        return False
    assert answer.structured_content == {"result": ["Lamp"]}
    return True


@pytest.mark.parametrize("take_away", WAYS, ids=lambda each: each.__name__)
async def test_an_mcp_server_takes_a_token_until_scopegate_takes_it_away(
    beside: Beside, take_away: TakeAway
) -> None:
    user = await beside.user()
    scopegate = Scopegate(
        beside.service.url, client_id="orders", client_secret=beside.client_secret
    )
    with serving_app(mcp_app(scopegate)) as url:
        await until(lambda: scopegate.state.fresh)
        token = beside.login(user)
        async with mcp_client(url, token) as (client, statuses):
            for _ in range(5):
                assert await is_answered(client)
            assert scopegate.state.introspections <= 1
            await take_away(beside, user, token)
            async with asyncio.timeout(PATIENCE):
                while await is_answered(client):
                    pass
            assert statuses[-1] == WAYS[take_away]


def test_the_server_of_the_guide_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", "a-secret")
    (block,) = Document("docs/how-to/mcp.md").blocks("python")
    made: dict[str, object] = {}
    exec(block.text, made)  # noqa: S102 - our own document
    assert isinstance(made["app"], Starlette)


CALLBACK = "http://127.0.0.1:1455/callback"


class Assistant:
    """A program that uses MCP servers, registered at Scopegate: what it keeps, and its browser."""

    def __init__(self, beside: Beside, person: Someone) -> None:
        self._beside, self._person = beside, person
        self.tokens: OAuthToken | None = None
        self._answer: dict[str, str] = {}

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull:
        return OAuthClientInformationFull(
            client_id="assistant", redirect_uris=[CALLBACK], token_endpoint_auth_method="none"
        )

    async def set_client_info(self, _: OAuthClientInformationFull) -> None:
        raise AssertionError("it is registered already")

    async def browse(self, url: str) -> None:
        """Lead the person's browser there: they sign in and agree."""
        async with httpx2.AsyncClient(base_url=self._beside.service.url) as client:
            browser = PersonsBrowser(client)
            await browser.sign_in(self._person)
            self._answer = answered(await browser.decide(await client.get(url)))

    async def come_back(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(**self._answer)


class Unregistered(Assistant):
    """One that describes itself."""

    info: OAuthClientInformationFull | None = None

    async def get_client_info(self) -> OAuthClientInformationFull | None:  # type: ignore[override]
        return self.info

    async def set_client_info(self, info: OAuthClientInformationFull) -> None:
        self.info = info


async def test_the_sdks_client_signs_a_person_in_for_one_mcp_server(beside: Beside) -> None:
    """It finds Scopegate by the server's metadata, and names the server as the resource."""
    user, port = await beside.user(), free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    async with Runtime.open(settings_for(beside.database_url)) as runtime:
        async with runtime.work(OPERATOR) as work:
            await register_scope(work, "read:orders", description="See orders", resource=url)
        await register(runtime, "assistant", redirect_uris=[CALLBACK])
    scopegate = Scopegate(
        beside.service.url, client_id="orders", client_secret=beside.client_secret, audience=url
    )
    assistant = Assistant(beside, user)
    metadata = OAuthClientMetadata(redirect_uris=[CALLBACK], token_endpoint_auth_method="none")
    signing_in = OAuthClientProvider(
        url, metadata, assistant, assistant.browse, assistant.come_back
    )
    with serving_app(mcp_app(scopegate, url), port):
        await until(lambda: scopegate.state.fresh)
        async with (
            httpx2.AsyncClient(auth=signing_in, timeout=PATIENCE) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            assert await is_answered(client)
        assert assistant.tokens
        token = assistant.tokens.access_token
        # What the metadata name, the client asks for: it wants a refresh token.
        assert assistant.tokens.scope == "offline_access read:orders"
        answer = httpx2.get(f"{beside.service.url}/users/me", headers=bearer(token))
        assert answer.status_code == 401, "it is for the MCP server alone"
        assert httpx2.post(url, headers=bearer(token)).status_code != 401
        beside.administer("PATCH", f"/users/{user.id}", json={"disabled": True})
        await until(lambda: httpx2.post(url, headers=bearer(token)).status_code == 401)


async def test_the_sdks_client_describes_itself_and_need_not_be_registered(
    beside: Beside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(make_certificate(tmp_path)))
    user, port = await beside.user(), free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    async with (
        Runtime.open(settings_for(beside.database_url)) as runtime,
        runtime.work(OPERATOR) as work,
    ):
        await register_scope(work, "read:orders", description="See orders", resource=url)
    async with describing(tmp_path) as described:
        described.changes = {"redirect_uris": [CALLBACK]}
        settings: dict[str, Any] = {
            "client_id_metadata": True,
            "client_id_metadata_hosts": "localhost",
        }
        with serving(database_url=beside.database_url, secret_keys=SECRET, **settings) as service:
            scopegate = Scopegate(
                service.url, client_id="orders", client_secret=beside.client_secret, audience=url
            )
            assistant = Unregistered(replace(beside, service=service), user)
            signing_in = OAuthClientProvider(
                url,
                OAuthClientMetadata(redirect_uris=[CALLBACK]),
                assistant,
                assistant.browse,
                assistant.come_back,
                client_metadata_url=described.url,
            )
            with serving_app(mcp_app(scopegate, url), port):
                await until(lambda: scopegate.state.fresh)
                async with (
                    httpx2.AsyncClient(auth=signing_in, timeout=PATIENCE) as http,
                    Client(streamable_http_client(url, http_client=http)) as client,
                ):
                    assert await is_answered(client)
        assert assistant.info
        assert assistant.info.client_id == described.url
        assert len(described.asked) == 1
