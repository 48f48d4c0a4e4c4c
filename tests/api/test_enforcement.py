"""Live enforcement, as a client sees it: no SQL while nothing changes, no delay when it does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import httpx2
import pytest
from sqlalchemy import event

from app.identity.account_writes import disable_user
from app.runtime import Runtime
from app.tokens.keys import retire_key, rotate_key
from tests.conftest import client_of, following, settings_for
from tests.support.factories import OPERATOR, bearer, login, make_user, status
from tests.support.faults import proxy_to
from tests.support.processes import until
from tests.support.statements import execute

METRICS_TOKEN = "a-token-for-the-scraper-of-the-tests-only"


@dataclass
class Work:
    """What the database was bothered with."""

    statements: int = 0
    connections: int = 0


@asynccontextmanager
async def work_of(runtime: Runtime) -> AsyncIterator[Work]:
    """The statements that are run and the connections that are taken meanwhile."""
    work, engine = Work(), runtime.engine.sync_engine

    def on_statement(*_: object) -> None:
        work.statements += 1

    def on_checkout(*_: object) -> None:
        work.connections += 1

    event.listen(engine, "before_cursor_execute", on_statement)
    event.listen(engine, "checkout", on_checkout)
    yield work
    event.remove(engine, "before_cursor_execute", on_statement)
    event.remove(engine, "checkout", on_checkout)


async def until_refused(client: httpx2.AsyncClient, token: dict[str, str], code: int = 401) -> None:
    async with asyncio.timeout(60):
        while await status(client, token) != code:
            await asyncio.sleep(0.005)


@pytest.mark.every_token_kind
async def test_a_remembered_request_opens_no_session_takes_no_connection_and_runs_no_sql(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    token = await bearer(own_client, await make_user(own_runtime, "read:items"))
    assert await status(own_client, token) == 200
    async with work_of(own_runtime) as work:
        for _ in range(20):
            assert await status(own_client, token) == 200
            assert await status(own_client, {"Authorization": "Bearer forged"}) == 401
    assert work == Work(statements=0, connections=0)


async def test_whoever_reads_an_item_asks_the_database_for_the_item_alone(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    token = await bearer(own_client, await make_user(own_runtime, "read:items", "write:items"))
    made = await own_client.post("/items", json={"title": "Lamp"}, headers=token)
    async with work_of(own_runtime) as work:
        assert await status(own_client, token, f"/items/{made.json()['id']}") == 200
    assert work == Work(statements=1, connections=1)


async def test_with_the_cache_off_every_request_asks_the_database(own_database_url: str) -> None:
    settings = settings_for(own_database_url, cache_size=0)
    async with Runtime.open(settings) as runtime, following(runtime), client_of(runtime) as client:
        token = await bearer(client, await make_user(runtime))
        async with work_of(runtime) as work:
            for _ in range(5):
                assert await status(client, token) == 200
        assert work == Work(statements=5, connections=5)
        assert (len(runtime.principals), len(runtime.access_tokens)) == (0, 0)


@pytest.mark.every_token_kind
async def test_whoever_signs_out_here_and_asks_here_next_is_refused(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    """Every time: it does not depend on a message that is on its way."""
    user = await make_user(own_runtime, "read:items")

    async def by_token(token: str) -> httpx2.Response:
        return await own_client.post("/revoke", data={"token": token})

    async def by_route(token: str) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return await own_client.delete("/users/me/sessions", headers=headers)

    ways: list[Callable[[str], Awaitable[httpx2.Response]]] = [by_token, by_route] * 10
    for sign_out in ways:
        token = (await login(own_client, user)).json()["access_token"]
        header = {"Authorization": f"Bearer {token}"}
        assert await status(own_client, header) == 200
        assert (await sign_out(token)).is_success
        assert await status(own_client, header) == 401


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("DELETE FROM grants", 403),
        ("UPDATE grants SET expires_at = now()", 403),
        ("UPDATE sessions SET ended_at = now()", 401),
        ("DELETE FROM sessions", 401),
        pytest.param("TRUNCATE sessions CASCADE", 401, marks=pytest.mark.long),
        ("UPDATE users SET disabled_at = now()", 401),
    ],
)
async def test_what_psql_takes_away_is_gone(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, statement: str, code: int
) -> None:
    token = await bearer(own_client, await make_user(own_runtime, "read:items"))
    assert await status(own_client, token, "/items") == 200
    await execute(own_runtime, statement)
    async with asyncio.timeout(60):
        while await status(own_client, token, "/items") != code:
            await asyncio.sleep(0.005)


async def test_an_opaque_token_that_is_deleted_is_refused(own_database_url: str) -> None:
    settings = settings_for(own_database_url, access_token_format="opaque")
    async with Runtime.open(settings) as runtime, following(runtime), client_of(runtime) as client:
        user = await make_user(runtime)
        token, other = await bearer(client, user), await bearer(client, user)
        assert [await status(client, each) for each in (token, other)] == [200, 200]
        first = "SELECT min(issued_at) FROM opaque_tokens"
        await execute(runtime, f"DELETE FROM opaque_tokens WHERE issued_at = ({first})")
        await until_refused(client, token)
        assert await status(client, other) == 200


@pytest.mark.long
async def test_what_is_remembered_of_a_token_counts_only_while_the_feed_is_fresh(
    own_database_url: str,
) -> None:
    """Nobody hears that it is deleted, or that its key is retired; and yet it is refused."""
    async with proxy_to(own_database_url) as direct:
        settings = settings_for(
            own_database_url, listen_database_url=direct.url, revocation_bound=2
        )
        opaque = settings.model_copy(update={"access_token_format": "opaque"})
        async with (
            Runtime.open(settings) as runtime,
            Runtime.open(opaque) as other,
            following(runtime),
            following(other),
            client_of(runtime) as client,
            client_of(other) as elsewhere,
        ):
            user = await make_user(runtime)
            signed, random = await bearer(client, user), await bearer(elsewhere, user)
            assert await status(client, signed) == 200
            assert await status(elsewhere, random) == 200
            direct.swallow()
            await until(lambda: not runtime.feed.fresh() and not other.feed.fresh())
            assert await status(client, signed) == 200
            assert await status(elsewhere, random) == 200
            await execute(runtime, "DELETE FROM opaque_tokens")
            assert await status(elsewhere, random) == 401
            await execute(runtime, "UPDATE signing_keys SET retires_at = now()")
            await until_refused(client, signed)


async def test_a_remembered_token_ends_with_its_key(own_database_url: str) -> None:
    """Retired by another process; and no token of it is let in by what was remembered."""
    settings = settings_for(own_database_url)
    async with (
        Runtime.open(settings) as runtime,
        Runtime.open(settings) as elsewhere,
        following(runtime),
        client_of(runtime) as client,
    ):
        token = await bearer(client, await make_user(runtime))
        assert await status(client, token) == 200
        leaked = runtime.keyring.signing(runtime.now()).kid
        async with elsewhere.work(OPERATOR) as work:
            await rotate_key(
                work,
                elsewhere.cipher,
                algorithm="ES256",
                publication=timedelta(),
                overlap=elsewhere.key_overlap,
            )
            await retire_key(work, leaked)
        await until_refused(client, token)
        jwks = (await client.get("/.well-known/jwks.json")).json()
        assert leaked not in {key["kid"] for key in jwks["keys"]}


@pytest.mark.long
async def test_a_database_that_hangs_is_503_for_all_who_wait_and_not_for_one_after_the_other(
    own_database_url: str,
) -> None:
    """As many as there may be: whoever waits for the same thing learns together that it is not."""
    async with proxy_to(own_database_url) as proxy:
        settings = settings_for(
            proxy.url,
            revocation_bound=2,
            database_pool_timeout=1,
            database_connect_timeout=1,
            database_statement_timeout=1,
        )
        async with (
            Runtime.open(settings) as runtime,
            following(runtime),
            client_of(runtime) as client,
        ):
            token = await bearer(client, await make_user(runtime))
            assert await status(client, token) == 200
            proxy.swallow()
            await until(lambda: not runtime.feed.fresh())
            async with asyncio.timeout(40):
                answers = await asyncio.gather(
                    *(client.get("/users/me", headers=token) for _ in range(60))
                )
            assert {answer.status_code for answer in answers} == {503}
            assert {answer.headers["retry-after"] for answer in answers} == {"1"}
            proxy.heal()
            await until(runtime.feed.fresh)
            assert await status(client, token) == 200


async def test_metrics_tell_how_requests_were_checked(own_database_url: str) -> None:
    settings = settings_for(own_database_url, metrics_token=METRICS_TOKEN)
    async with Runtime.open(settings) as runtime, client_of(runtime) as client:
        user = await make_user(runtime)
        token = await bearer(client, user)
        scrape = {"Authorization": f"Bearer {METRICS_TOKEN}"}

        async def metrics() -> dict[str, float]:
            answer = await client.get("/metrics", headers=scrape)
            assert answer.status_code == 200
            lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
            return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

        assert await status(client, token) == 200
        unfollowed = await metrics()
        assert unfollowed['scopegate_principal_lookups_total{found="asked"}'] == 1
        assert unfollowed["scopegate_feed_fresh"] == 0
        assert unfollowed["scopegate_hash_queue_depth"] == 0
        async with following(runtime):
            for _ in range(3):
                assert await status(client, token) == 200
            followed = await metrics()
            assert followed['scopegate_principal_lookups_total{found="loaded"}'] == 1
            assert followed['scopegate_principal_lookups_total{found="remembered"}'] == 2
            assert followed["scopegate_principals_remembered"] == 1
            assert followed["scopegate_tokens_remembered"] == 1
            assert followed["scopegate_feed_fresh"] == 1
            assert (
                0
                < followed["scopegate_feed_lag_seconds"]
                < settings.revocation_bound.total_seconds()
            )
            async with runtime.work(OPERATOR) as work:
                await disable_user(work, user.id)
            await until(lambda: runtime.feed.changes_heard)
            after = await metrics()
            assert after["scopegate_principals_forgotten_total"] == 1
            assert after["scopegate_changes_heard_total"] >= 1
            assert after['scopegate_logins_total{outcome="throttled"}'] == 0
        wrong = {"grant_type": "client_credentials", "client_id": "x", "client_secret": "x"}
        for _ in range(12):
            await client.post("/token", data=wrong)
        assert (await metrics())['scopegate_logins_total{outcome="throttled"}'] == 2


async def test_metrics_are_for_whoever_holds_their_token(
    client: httpx2.AsyncClient, own_database_url: str
) -> None:
    assert (await client.get("/metrics")).status_code == 404, "off unless they are asked for"
    settings = settings_for(own_database_url, metrics_token=METRICS_TOKEN)
    async with Runtime.open(settings) as runtime, client_of(runtime) as scraped:
        assert (await scraped.get("/metrics")).status_code == 401
        token = await bearer(scraped, await make_user(runtime, "admin"))
        assert await status(scraped, token, "/metrics") == 401, "not even an admin's"
