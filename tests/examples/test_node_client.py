"""A service in Node.js, without any package: the protocol suffices to write a client.

Beside a stand-in that does what no Scopegate would, and beside a Scopegate that serves.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from app.settings import PROJECT
from client.tests.stand_in import CAEP, OWN, StandIn
from tests.support.clients import need
from tests.support.orders import WAYS, Beside, TakeAway, scopegate_beside
from tests.support.processes import PATIENCE

pytestmark = pytest.mark.npm
CLIENT = PROJECT / "examples" / "node_client"


@dataclass
class Orders:
    """The service, as its clients see it."""

    http: httpx2.AsyncClient

    async def status(self, token: str | None) -> int:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return (await self.http.get("/orders", headers=headers)).status_code

    async def until_answered(self, token: str, status: int) -> None:
        """Wait until it answers this token so: it hears of a change a moment later."""
        async with asyncio.timeout(PATIENCE):
            while await self.status(token) != status:
                await asyncio.sleep(0.01)

    async def state(self) -> Any:
        return (await self.http.get("/state")).json()

    async def until(self, **expected: Any) -> None:
        """Wait until its state says this."""
        async with asyncio.timeout(PATIENCE):
            while expected.items() - (await self.state()).items():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def orders(issuer: str, secret: str = "s: +%") -> AsyncIterator[Orders]:
    need("node")
    settings = {"ISSUER": issuer, "CLIENT_ID": "orders", "CLIENT_SECRET": secret}
    process = await asyncio.create_subprocess_exec(
        *("node", CLIENT / "server.mjs"),
        env=os.environ
        | {f"SCOPEGATE_{name}": value for name, value in settings.items()}
        | {"PORT": "0"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout
        listening = re.fullmatch(
            r"listening on (\d+)\n", (await process.stdout.readline()).decode()
        )
        assert listening
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{listening[1]}") as http:
            yield Orders(http)
    finally:
        process.kill()
        await process.communicate()


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    async with StandIn().serving() as serving:
        serving.complete_since = 0
        yield serving


async def test_it_challenges_and_lets_in_without_a_call(stand_in: StandIn) -> None:
    async with orders(stand_in.issuer) as service:
        await service.until(fresh=True)
        token = stand_in.token()
        for _ in range(20):
            assert await service.status(token) == 200
        assert await service.status(None) == 401
        assert await service.status("a.b.c") == 401
        assert await service.status(stand_in.token("write:orders")) == 403
        for wrong in ({"iss": f"{stand_in.issuer}/"}, {"aud": "x"}, {"exp": stand_in.second() - 1}):
            assert await service.status(stand_in.token(**wrong)) == 401
        assert stand_in.asked == ["/token", "/events", "/.well-known/jwks.json"]


async def test_it_hears_of_revocations(stand_in: StandIn) -> None:
    async with orders(stand_in.issuer) as service:
        await service.until(fresh=True)
        ended, changed, disabled = (stand_in.token(iat=stand_in.second() - 5) for _ in range(3))
        for token in (ended, changed, disabled):
            assert await service.status(token) == 200
        stand_in.end_session(ended)
        stand_in.event(f"{CAEP}session-revoked", stand_in.user(disabled))
        stand_in.answers[changed]["scope"] = ""
        stand_in.event(f"{OWN}grants-changed", stand_in.user(changed))
        await service.until(events=3)
        assert await service.status(ended) == 401
        assert await service.status(disabled) == 401
        for _ in range(3):
            assert await service.status(changed) == 403
        await service.until(introspections=1)
        stand_in.event("urn:example:unknown", {"format": "email"})
        await service.until(events=4)
        other = stand_in.token(iat=stand_in.second() - 5)
        assert await service.status(other) == 200
        await service.until(introspections=2)


async def test_it_resumes_a_stream_and_believes_no_proxy(stand_in: StandIn) -> None:
    stand_in.bound = 1000
    async with orders(stand_in.issuer) as service:
        await service.until(fresh=True)
        stand_in.streams[0].cut()
        await service.until(fresh=True)
        async with asyncio.timeout(PATIENCE):
            while not [each for each in stand_in.headers if "scopegate-through" in each]:
                await asyncio.sleep(0.01)
        stand_in.silent, then = True, stand_in.now()
        await service.until(fresh=False)
        # What is repeated proves nothing, and neither does the answer to another request.
        stand_in.hello = {"nonce": "another"}
        for stream in list(stand_in.streams):
            stream.send("beat", {"through": then})
        assert (await service.state())["fresh"] is False
        token = stand_in.token()
        assert await service.status(token) == 200
        await service.until(introspections=1)
        stand_in.statuses["/introspect"] = 503
        await service.until_answered(token, 503)
        stand_in.hello, stand_in.silent = {}, False
        del stand_in.statuses["/introspect"]
        await service.until(fresh=True)
        assert await service.status(token) == 200


@pytest.fixture(scope="module")
async def beside(server_url: str, template: None) -> AsyncIterator[Beside]:
    async with scopegate_beside(server_url) as beside:
        yield beside


@pytest.mark.parametrize("take_away", WAYS, ids=lambda each: each.__name__)
async def test_what_a_real_scopegate_takes_away_is_refused(
    beside: Beside, take_away: TakeAway
) -> None:
    user = await beside.user()
    async with orders(beside.service.url, beside.client_secret) as service:
        await service.until(fresh=True)
        token = beside.login(user)
        for _ in range(20):
            assert await service.status(token) == 200
        assert (await service.state())["introspections"] <= 1
        events = (await service.state())["events"]
        await take_away(beside, user, token)
        await service.until_answered(token, WAYS[take_away])
        assert (await service.state())["events"] > events


def test_the_client_has_fewer_than_200_lines_of_code() -> None:
    lines = (CLIENT / "scopegate.mjs").read_text().splitlines()
    assert len([line for line in lines if line and not line.lstrip().startswith("//")]) < 200
