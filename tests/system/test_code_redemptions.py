"""One code, redeemed by fifty at once at two processes, again and again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from app.runtime import Runtime
from tests.conftest import SECRET, settings_for
from tests.support.browsing import Application, PersonsBrowser, register
from tests.support.factories import make_user
from tests.support.processes import PATIENCE, serving

pytestmark = pytest.mark.long
ROUNDS, AT_ONCE = 200, 50


@pytest.fixture
async def redeeming(
    own_database_url: str,
) -> AsyncIterator[tuple[PersonsBrowser, Application, list[httpx2.AsyncClient]]]:
    """A signed-in browser, an application, and two processes that it may ask."""
    async with Runtime.open(settings_for(own_database_url)) as runtime:
        alice = await make_user(runtime, "read:items", username="Alice")
        app = await register(runtime)
    settings: dict[str, Any] = {"database_url": own_database_url, "secret_keys": SECRET}
    async with AsyncExitStack() as stack:
        here = stack.enter_context(serving(**settings))
        there = stack.enter_context(serving(**settings, issuer=here.url))
        clients = [
            await stack.enter_async_context(
                httpx2.AsyncClient(
                    base_url=each.url, timeout=PATIENCE, limits=httpx2.Limits(max_connections=25)
                )
            )
            for each in (here, there)
        ]
        browser = PersonsBrowser(clients[0])
        await browser.sign_in(alice)
        yield browser, app, clients


async def test_fifty_redemptions_of_one_code_by_two_processes_200_times(
    redeeming: tuple[PersonsBrowser, Application, list[httpx2.AsyncClient]],
) -> None:
    """One wins, and a later one that is valid ends what it got; no error is ours."""
    browser, app, clients = redeeming
    for _ in range(ROUNDS):
        code = await browser.code(app)
        answers = await asyncio.gather(
            *(app.redeem(clients[number % 2], code) for number in range(AT_ONCE))
        )
        won = [each.json() for each in answers if each.status_code == 200]
        assert len(won) == 1
        refused = [each for each in answers if each.status_code != 200]
        assert {each.status_code for each in refused} == {400}
        assert {each.json()["error"] for each in refused} == {"invalid_grant"}
        header = {"Authorization": f"Bearer {won[0]['access_token']}"}
        assert (await clients[0].get("/items", headers=header)).status_code == 401
        async with asyncio.timeout(PATIENCE):
            while (await clients[1].get("/items", headers=header)).status_code != 401:
                await asyncio.sleep(0.001)
