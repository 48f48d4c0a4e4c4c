"""The `mcp` SDK's own server, unmodified, with the adapter as its token verifier."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from mcp.server import MCPServer
from mcp.server.auth.settings import AuthSettings

from client.tests.stand_in import StandIn, until
from scopegate_client import Scopegate
from scopegate_client.mcp import AnswerUnavailable, ScopegateTokenVerifier

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    async with StandIn().serving() as serving:
        serving.complete_since = 0
        yield serving


@asynccontextmanager
async def mcp_server(scopegate: Scopegate) -> AsyncIterator[httpx2.AsyncClient]:
    """Yield a client of an MCP server, as the README has it."""
    server = MCPServer(
        "orders",
        token_verifier=ScopegateTokenVerifier(scopegate),
        auth=AuthSettings(
            issuer_url=scopegate.issuer,
            resource_server_url="http://127.0.0.1:8000/mcp",
            required_scopes=["read:orders"],
            validate_token_resource=False,
        ),
    )
    app = server.streamable_http_app()
    app.add_middleware(AnswerUnavailable)
    transport = httpx2.ASGITransport(app=app)
    async with (
        scopegate.lifespan(),
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client,
    ):
        yield client


async def initialize(client: httpx2.AsyncClient, token: str | None) -> httpx2.Response:
    headers = {"Accept": "application/json, text/event-stream"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return await client.post("/mcp", json=INITIALIZE, headers=headers)


async def test_the_sdks_server_takes_a_token_and_refuses_it_after_its_revocation(
    stand_in: StandIn,
) -> None:
    scopegate = stand_in.client()
    async with mcp_server(scopegate) as client:
        await until(lambda: scopegate.state.fresh)
        token = stand_in.token()
        answer = await initialize(client, token)
        assert answer.status_code == 200
        assert "serverInfo" in answer.text
        stand_in.end_session(token)
        await until(lambda: scopegate.state.events)
        assert (await initialize(client, token)).status_code == 401
        assert (await initialize(client, None)).status_code == 401
        assert (await initialize(client, stand_in.token("write:orders"))).status_code == 403
        assert stand_in.count("/introspect") == 0


async def test_what_the_adapter_says_of_a_token(stand_in: StandIn) -> None:
    scopegate = stand_in.client()
    verifier = ScopegateTokenVerifier(scopegate)
    async with scopegate.lifespan():
        token = stand_in.token("b a")
        access = await verifier.verify_token(token)
        assert access
        said = stand_in.answers[token]
        assert (access.subject, access.client_id) == (said["sub"], "scopegate")
        assert access.scopes == ["a", "b"]
        assert access.resource == stand_in.issuer
        assert access.claims
        assert access.claims["iss"] == stand_in.issuer
        # Expiry is judged by the database's clock, which the stand-in has a day ahead.
        assert access.expires_at is None
        assert await verifier.verify_token("a.b.c") is None


async def test_while_nothing_can_be_judged_the_mcp_server_answers_503(stand_in: StandIn) -> None:
    stand_in.statuses = {"/events": 503, "/introspect": 503}
    async with mcp_server(stand_in.client()) as client:
        answer = await initialize(client, stand_in.token())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
