"""After a switchover nothing is believed that the old primary says, also where it still runs."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from app.db.clock import monotonic
from app.db.embedded_server import NAME
from app.db.primary import Primary
from app.runtime import Runtime
from tests.conftest import client_of, following, settings_for
from tests.support.cluster import Node, primary_and_standby
from tests.support.factories import bearer, login, make_user, refresh
from tests.support.faults import OwnPostgres, proxy_to
from tests.support.postgres_programs import libpq_url, on_path
from tests.support.processes import PATIENCE, until

pytestmark = pytest.mark.system
BOUND = 1.0
FENCE = "default_transaction_read_only = on"
UNFENCE = "default_transaction_read_only = off"
REVOKE = "DELETE FROM grants"


@asynccontextmanager
async def replica(
    url: str, **settings: object
) -> AsyncIterator[tuple[Runtime, httpx2.AsyncClient]]:
    """A process that follows the changes in this database."""
    async with (
        Runtime.open(settings_for(url, revocation_bound=BOUND, **settings)) as runtime,
        following(runtime),
        client_of(runtime) as client,
    ):
        yield runtime, client


async def remembered_by(runtime: Runtime, client: httpx2.AsyncClient) -> dict[str, str]:
    """A token that this replica remembers as one that may read items."""
    token = await bearer(client, await make_user(runtime, "read:items"))
    # On a busy machine the feed may not be fresh for a moment.
    while not runtime.principals.counts.hits:
        assert (await client.get("/items", headers=token)).status_code == 200
    return token


async def until_status(
    client: httpx2.AsyncClient, token: dict[str, str], code: int, *, path: str = "/items"
) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await client.get(path, headers=token)).status_code != code:
            await asyncio.sleep(0.01)


async def switch(old: Node, new: Node, how: str) -> None:
    """Promote the standby; the old primary stays up."""
    await old.configure("synchronous_standby_names = ''")
    if how != "the old one still takes writes":
        await old.configure(FENCE)
    await new.promote()
    if how == "the old one takes writes again":
        await old.configure(UNFENCE)


@pytest.mark.parametrize(
    "how",
    ["the old one is fenced", "the old one still takes writes", "the old one takes writes again"],
)
async def test_what_the_new_primary_revokes_is_refused_though_the_old_one_stays_up(
    tmp_path: Path, how: str
) -> None:
    """On every replica, also on one that starts now and finds the old one first in its URL."""
    async with primary_and_standby(tmp_path) as (old, new, url), AsyncExitStack() as stack:
        one, first = await stack.enter_async_context(replica(url))
        _, second = await stack.enter_async_context(replica(url))
        token = await remembered_by(one, first)
        assert (await second.get("/items", headers=token)).status_code == 200
        await switch(old, new, how)
        await new.execute(REVOKE, NAME)
        _, third = await stack.enter_async_context(replica(url))
        for client in (first, second, third):
            await until_status(client, token, 403)
            await until_status(client, {}, 200, path="/health/ready")
        await until(one.feed.fresh)


async def test_a_name_that_leads_elsewhere_now_is_followed_there(tmp_path: Path) -> None:
    """Also where the server there is of another cluster, and the old one answers as before."""
    blue = await OwnPostgres.start(tmp_path / "blue")
    green = await OwnPostgres.start(tmp_path / "green")
    async with proxy_to(blue.url) as name, replica(name.url) as (runtime, client):
        token = await remembered_by(runtime, client)
        copy(blue.url, green.url)
        name.lead_to(green.url)
        execute(green.url, REVOKE)
        await until_status(client, token, 403)
        await until(runtime.feed.fresh)
        assert (await client.get("/health/ready")).json()["checks"] == "cached"
    for server in (blue, green):
        await server.stop()


async def test_of_two_servers_behind_one_name_the_newer_counts(tmp_path: Path) -> None:
    async with (
        primary_and_standby(tmp_path) as (old, new, _),
        proxy_to(old.url) as name,
        replica(name.url) as (runtime, client),
    ):
        token = await remembered_by(runtime, client)
        await switch(old, new, "the old one still takes writes")
        await new.execute(REVOKE, NAME)
        name.lead_to(old.url, new.url)
        await until_status(client, token, 403)


async def test_a_listener_that_stays_behind_is_not_trusted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The pool has moved with its URL; the URL to listen at leads to the old primary alone."""
    async with (
        primary_and_standby(tmp_path) as (old, new, url),
        replica(url, listen_database_url=old.url) as (runtime, client),
    ):
        token = await remembered_by(runtime, client)
        await switch(old, new, "the old one still takes writes")
        await new.execute(REVOKE, NAME)
        await until_status(client, token, 403)
        await until(lambda: "SCOPEGATE_LISTEN_DATABASE_URL leads elsewhere" in caplog.text)
        assert not runtime.feed.fresh()


async def test_a_replica_that_cant_reach_the_new_primary_gives_no_pass(tmp_path: Path) -> None:
    async with primary_and_standby(tmp_path) as (old, new, _), proxy_to(new.url) as cut:
        url = f"postgresql://{NAME}@127.0.0.1:{old.port},{cut.url.rpartition('@')[2]}"
        async with replica(url, database_connect_timeout=0.5) as (runtime, client):
            token = await remembered_by(runtime, client)
            cut.swallow()
            await until(lambda: runtime.feed.writes() and runtime.feed.fresh())
            assert (await client.get("/items", headers=token)).status_code == 200
            await switch(old, new, "the old one is fenced")
            await new.execute(REVOKE, NAME)
            await until_status(client, token, 503)
            # Its last beat may be younger than the bound for a moment yet.
            async with asyncio.timeout(PATIENCE):
                while "takes no writes" not in (await client.get("/health/ready")).text:
                    await asyncio.sleep(0.02)
            assert (await client.get("/health/ready")).status_code == 503
            cut.heal()
            await until_status(client, token, 403)
            await until(runtime.feed.fresh)


async def test_where_commits_wait_for_a_standby_in_vain_nothing_is_trusted_and_it_is_not_ready(
    tmp_path: Path,
) -> None:
    async with (
        primary_and_standby(tmp_path) as (primary, standby, _),
        replica(primary.url) as (runtime, client),
    ):
        standby.stall()
        await until(lambda: not runtime.feed.fresh() and runtime.feed.failure)
        ready = await client.get("/health/ready")
        assert ready.status_code == 503
        assert "synchronous standby" in ready.json()["detail"]
        async with runtime.engine.connect() as connection:
            waiting = await connection.scalar(
                text("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
            )
        assert waiting <= 1, "no session is left behind"
        standby.go_on()
        await until(runtime.feed.fresh)
        await until_ready(client)


async def test_a_beat_that_waits_in_vain_delays_no_survey_past_the_bound(tmp_path: Path) -> None:
    """A newer primary must be found within the bound, also while the old one's commits hang."""
    async with (
        primary_and_standby(tmp_path) as (primary, standby, _),
        replica(primary.url) as (runtime, _),
    ):
        surveys: list[float] = []
        survey = runtime.feed._to_write

        async def noted() -> Any:
            surveys.append(monotonic())
            return await survey()

        runtime.feed._to_write = noted
        standby.stall()
        await until(lambda: not runtime.feed.fresh())
        surveys.clear()
        await until(lambda: len(surveys) > 3)
        assert min(later - each for each, later in pairwise(surveys)) < BOUND
        standby.go_on()


async def test_a_primary_that_was_fenced_is_not_ready(tmp_path: Path) -> None:
    server = await OwnPostgres.start(tmp_path / "home")
    async with replica(server.url) as (runtime, client):
        execute(server.url, f"ALTER SYSTEM SET {FENCE}", "SELECT pg_reload_conf()")
        await until(lambda: not runtime.feed.writes())
        ready = await client.get("/health/ready")
        assert ready.status_code == 503
        assert "takes no writes" in ready.json()["detail"]
        execute(
            server.url, "SET default_transaction_read_only = off", f"ALTER SYSTEM SET {UNFENCE}"
        )
        execute(server.url, "SELECT pg_reload_conf()")
        await until_ready(client)
    await server.stop()


async def until_ready(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await client.get("/health/ready")).status_code != 200:
            await asyncio.sleep(0.01)


def execute(url: str, *statements: str) -> None:
    """What an operator does with psql."""
    each = [part for statement in statements for part in ("--command", statement)]
    run("psql", "--quiet", "--set=ON_ERROR_STOP=1", *each, libpq_url(url))


def copy(source: str, target: str) -> None:
    """Make a database what another is, by a dump."""
    dump = run("pg_dump", "--clean", "--if-exists", libpq_url(source))
    run("psql", "--quiet", "--set=ON_ERROR_STOP=1", libpq_url(target), stdin=dump)


def run(*command: str, stdin: str = "") -> str:
    done = subprocess.run(
        command, env=on_path(os.environ), input=stdin, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_replica_that_is_behind_ends_no_session_that_another_has_opened(
    tmp_path: Path,
) -> None:
    """Until its next survey it asks the old primary: it says 503, not that the token is no good."""
    async with primary_and_standby(tmp_path) as (old, new, url), AsyncExitStack() as stack:
        ahead, first = await stack.enter_async_context(replica(url))
        # Its surveys are ten seconds apart.
        settings = settings_for(url, revocation_bound=30)
        behind = await stack.enter_async_context(Runtime.open(settings))
        await stack.enter_async_context(following(behind))
        second = await stack.enter_async_context(client_of(behind))
        alice = await make_user(ahead, "read:items")
        await switch(old, new, "the old one is fenced")
        while (answer := await login(first, alice)).status_code != 200:
            await asyncio.sleep(0.01)
        pair = answer.json()
        token = {"Authorization": f"Bearer {pair['access_token']}"}
        assert (await first.get("/items", headers=token)).status_code == 200
        answers = [
            await second.get("/items", headers=token),
            await refresh(second, pair["refresh_token"]),
        ]
        assert [answer.status_code for answer in answers] == [503, 503]
        await until_status(second, token, 200)
        assert (await refresh(second, pair["refresh_token"])).status_code == 200


async def test_a_host_that_says_nothing_delays_no_successor(tmp_path: Path) -> None:
    """It is the one that led: frozen, it takes connections and never answers."""
    async with primary_and_standby(tmp_path) as (old, new, _), proxy_to(old.url) as frozen:
        url = f"postgresql://{NAME}@127.0.0.1:{new.port},{frozen.url.rpartition('@')[2]}"
        # Longer than this test waits for anything.
        async with replica(url, database_connect_timeout=2 * PATIENCE) as (runtime, client):
            token = await remembered_by(runtime, client)
            await old.configure("synchronous_standby_names = ''")
            frozen.swallow()
            await until_status(client, token, 503)
            await new.promote()
            await until_status(client, token, 200)
            await until(runtime.feed.fresh)


async def test_hosts_that_keep_their_timeline_to_themselves_are_asked_at_once(
    tmp_path: Path,
) -> None:
    """As a Postgres does that replicates in ways of its own. None of them is given up for it."""
    async with primary_and_standby(tmp_path) as (old, new, _):
        await new.promote()
        for node in (old, new):
            await node.configure("synchronous_standby_names = ''")
            connection = await node.connect()
            # A superuser is never refused.
            await connection.execute("CREATE ROLE plain LOGIN")
            await connection.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
            await connection.close()
        primary = Primary(patience=PATIENCE)
        hosts = [("127.0.0.1", old.port), ("127.0.0.1", new.port)]
        asked = [primary._ask(host, user="plain", database=NAME) for host in hosts]
        connections = await asyncio.gather(*asked)
        for connection in connections:
            assert primary.server_of(connection).timeline == 0
            await connection.close()
