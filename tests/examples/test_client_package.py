"""The example that uses scopegate-client, beside a Scopegate that serves: nothing is simulated."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from examples.resource_server.app import create_app
from scopegate_client import Scopegate
from tests.conftest import SECRET
from tests.support.factories import PASSWORD
from tests.support.many_sessions import make_holders
from tests.support.orders import WAYS, Beside, TakeAway, bearer, scopegate_beside
from tests.support.postgres_programs import libpq_url, psql
from tests.support.processes import PATIENCE, command, serving, until

pytestmark = pytest.mark.system


@pytest.fixture(scope="module", params=["jwt", "opaque"])
async def beside(
    request: pytest.FixtureRequest, server_url: str, template: None
) -> AsyncIterator[Beside]:
    async with scopegate_beside(server_url, access_token_format=request.param) as beside:
        yield beside


@asynccontextmanager
async def orders(beside: Beside) -> AsyncIterator[tuple[httpx2.AsyncClient, Scopegate]]:
    """Yield a client of the example, whose stream is fresh."""
    scopegate = Scopegate(
        beside.service.url, client_id="orders", client_secret=beside.client_secret
    )
    app = create_app(scopegate)
    transport = httpx2.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://orders") as client,
    ):
        await until(lambda: scopegate.state.fresh)
        yield client, scopegate


async def until_answered(client: httpx2.AsyncClient, token: str, status: int) -> None:
    """Wait until the other service answers this token so: it hears of a change a moment later."""
    async with asyncio.timeout(PATIENCE):
        while (await client.get("/orders", headers=bearer(token))).status_code != status:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("take_away", WAYS, ids=lambda each: each.__name__)
async def test_what_scopegate_takes_away_stops_counting_in_the_other_service(
    beside: Beside, take_away: TakeAway
) -> None:
    user = await beside.user()
    async with orders(beside) as (client, scopegate):
        token = beside.login(user)
        for _ in range(20):
            assert (await client.get("/orders", headers=bearer(token))).status_code == 200
        assert scopegate.state.introspections <= 1
        await take_away(beside, user, token)
        await until_answered(client, token, WAYS[take_away])


@pytest.mark.parametrize("take_away", WAYS, ids=lambda each: each.__name__)
async def test_a_personal_token_counts_in_the_other_service_until_it_is_taken_away(
    beside: Beside, take_away: TakeAway
) -> None:
    """Asked about once: after that, events say what changes."""
    user = await beside.user()
    async with orders(beside) as (client, scopegate):
        token = beside.make_token(user)
        for _ in range(20):
            assert (await client.get("/orders", headers=bearer(token))).status_code == 200
        assert scopegate.state.introspections == 1
        await take_away(beside, user, token)
        await until_answered(client, token, WAYS[take_away])


async def test_a_personal_token_goes_on_in_the_other_service_after_a_change_of_password(
    beside: Beside,
) -> None:
    user = await beside.user()
    async with orders(beside) as (client, _):
        token, login = beside.make_token(user), beside.login(user)
        for each in (token, login):
            assert (await client.get("/orders", headers=bearer(each))).status_code == 200
        other = bearer(beside.login(user))
        body = {"current_password": PASSWORD, "new_password": "wrong donkey battery staple"}
        url = f"{beside.service.url}/users/me/password"
        httpx2.post(url, json=body, headers=other).raise_for_status()
        await until_answered(client, login, 401)
        assert (await client.get("/orders", headers=bearer(token))).status_code == 200


async def test_ten_thousand_grants_that_one_statement_takes_away_all_stop_counting(
    beside: Beside,
) -> None:
    users = [await beside.user() for _ in range(3)]
    await make_holders(beside.database_url, 10_000, "read:orders")
    async with orders(beside) as (client, _):
        tokens = [beside.login(user) for user in users]
        for token in tokens:
            assert (await client.get("/orders", headers=bearer(token))).status_code == 200
        statement = "DELETE FROM grants WHERE scope = 'read:orders'"
        psql(libpq_url(beside.database_url), statement)
        for token in tokens:
            await until_answered(client, token, 403)


async def test_a_scope_that_is_granted_again_counts_again(beside: Beside) -> None:
    user = await beside.user()
    async with orders(beside) as (client, _):
        token = beside.login(user)
        for method, status in (("DELETE", 403), ("PUT", 200)):
            beside.administer(method, f"/users/{user.id}/grants/read:orders")
            await until_answered(client, token, status)


async def test_a_key_that_is_retired_at_once_stops_counting(beside: Beside) -> None:
    user = await beside.user()
    database = {"database_url": beside.database_url, "secret_keys": SECRET}
    async with orders(beside) as (client, _):
        token = beside.login(user)
        assert (await client.get("/orders", headers=bearer(token))).status_code == 200
        before = (await command("key", "list", **database)).splitlines()[1].split()[0]
        await command("key", "rotate", "--now", **database)
        for each in (token, beside.login(user)):
            assert (await client.get("/orders", headers=bearer(each))).status_code == 200
        await command("key", "retire", before, "--yes", **database)
        if not token.startswith("ey"):
            assert (await client.get("/orders", headers=bearer(token))).status_code == 200
            return
        await until_answered(client, token, 401)


async def test_the_service_goes_on_while_scopegate_restarts_and_heals_by_itself(
    beside: Beside, server_url: str
) -> None:
    user = await beside.user()
    settings: dict[str, Any] = {"database_url": beside.database_url, "secret_keys": SECRET}
    with serving(**settings, revocation_bound=2) as first:
        port = first.url.rpartition(":")[2]
        alone = Beside(first, beside.database_url, beside.admin, beside.client_secret)
        async with orders(alone) as (client, scopegate):
            token = alone.login(user)
            assert (await client.get("/orders", headers=bearer(token))).status_code == 200
            first.kill()
            statuses = []
            while scopegate.state.fresh:
                answer = await client.get("/orders", headers=bearer(token))
                statuses.append(answer.status_code)
            # The last one may have come when the bound was over.
            assert set(statuses[:-1]) == {200}
            answer = await client.get("/orders", headers=bearer(token))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            with serving(**settings, revocation_bound=2, port=port):
                await until(lambda: scopegate.state.fresh)
                assert (await client.get("/orders", headers=bearer(token))).status_code == 200
