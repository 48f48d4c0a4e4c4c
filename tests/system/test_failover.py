"""The primary is lost under load and its standby promoted: the service comes back by itself."""

import random
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.db.embedded_server import NAME
from app.db.primary import Primary
from app.db.servers import ServerReplaced
from app.db.url import normalise_url
from app.runtime import Runtime
from tests.chaos.load import Load
from tests.chaos.rounds import make_people, started
from tests.conftest import client_of, following, settings_for
from tests.support.cluster import primary_and_standby
from tests.support.factories import bearer, make_user
from tests.support.faults import OwnPostgres
from tests.support.processes import until

BOUND = 1.0


def connect_args(url: str) -> dict[str, Any]:
    normal = normalise_url(url)
    return dict(normal.get_dialect()().create_connect_args(normal)[1])


async def led_to(runtime: Runtime) -> set[int]:
    """The ports that all of the pool's connections lead to, the idle ones too."""
    ports = set()
    async with AsyncExitStack() as stack:
        for _ in range(runtime.settings.database_pool_size):
            connection = await stack.enter_async_context(runtime.engine.connect())
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            ports.add(driver._addr[1])
    return ports


async def test_the_primary_is_killed_and_the_standby_promoted_under_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No acknowledged change lost, no permission past the bound, no 500, and back by itself."""
    async with primary_and_standby(tmp_path) as (old, new, url):
        root, people = await make_people(url)
        async with started(2, tmp_path, database_url=url, revocation_bound=BOUND) as replicas:
            urls = [replica.service.url for replica in replicas if replica.service]
            chance = random.Random(1)  # noqa: S311 - to be repeated, not to be secret
            load = Load(urls, people, root=root, bound=BOUND, chance=chance)
            async with load.running():
                await load.served()
                old.kill()
                await new.promote()
                promoted = time.monotonic()
                await load.served()
                took = time.monotonic() - promoted
                await load.verify(new.connect)
            tally, answers = load.tally, load.tally.replicas.answers
            with capsys.disabled():
                print(f"\nserved again {took:.1f} s after the promotion; {dict(answers)}")
            assert not tally.violations
            assert tally.written > 0
            assert tally.revocations > 0
            assert answers["503"] + answers["no answer"], "the fault is real"


async def test_a_host_that_swallows_every_byte_keeps_nobody_from_the_next(
    tmp_path: Path,
) -> None:
    """And what still leads there is given up: it wakes, and takes writes."""
    async with primary_and_standby(tmp_path) as (old, new, url):
        settings = settings_for(
            url,
            revocation_bound=BOUND,
            database_connect_timeout=0.5,
            database_statement_timeout=1,
        )
        async with (
            Runtime.open(settings) as runtime,
            following(runtime),
            client_of(runtime) as client,
        ):
            alice = await make_user(runtime, "read:items")
            token = await bearer(client, alice)
            assert await led_to(runtime) == {old.port}
            old.stall()
            await new.promote()
            # Nobody asks anything meanwhile, so the pool still leads to the old one when it wakes.
            await until(lambda: not runtime.feed.fresh())
            await until(runtime.feed.fresh)
            old.go_on()
            assert await led_to(runtime) == {new.port}
            # What was revoked since, the old primary does not know of.
            await new.execute("DELETE FROM grants", NAME)
            await until(lambda: not runtime.principals._entries)
            assert (await client.get("/items", headers=token)).status_code == 403


async def test_an_old_primary_that_comes_back_is_refused_by_who_has_seen_the_new(
    tmp_path: Path,
) -> None:
    async with primary_and_standby(tmp_path) as (old, new, url):
        where = connect_args(url)
        only_old = {**where, "host": "127.0.0.1", "port": old.port}
        seen, unaware = Primary(), Primary()
        standby_first = {key: where[key][::-1] for key in ("host", "port")}
        first = await seen.connect(**{**where, **standby_first})
        assert first.get_settings().in_hot_standby == "off"
        assert not seen.leads_elsewhere(first)
        old.kill()
        await new.promote()
        second = await seen.connect(**where)
        assert seen.leads_elsewhere(first)
        await old.start()
        with pytest.raises(ServerReplaced):
            await seen.connect(**only_old)
        third = await seen.connect(**where)
        assert not seen.leads_elsewhere(third)
        # Who has not seen it is told in the old one's database by who has.
        with pytest.raises(ServerReplaced):
            await unaware.connect(**only_old)
        for connection in (first, second, third):
            connection.terminate()


async def test_a_connection_that_takes_no_more_writes_is_left_at_the_first(
    own_database_url: str,
) -> None:
    """SQLSTATE 25006, as a primary answers that has become a standby: 503, and then another."""
    settings = settings_for(own_database_url, database_pool_size=1)
    async with Runtime.open(settings) as runtime, client_of(runtime) as client:
        token = await bearer(client, await make_user(runtime, "write:items"))
        async with runtime.engine.begin() as connection:
            await connection.execute(text("SET default_transaction_read_only = on"))
        for status in (503, 201):
            answer = await client.post("/items", headers=token, json={"title": "Lamp"})
            assert answer.status_code == status


async def test_a_postgres_that_does_not_tell_which_it_is_serves_all_the_same(
    own_postgres: OwnPostgres,
) -> None:
    where = connect_args(own_postgres.url)
    connection = await Primary().connect(**where)
    await connection.execute("CREATE ROLE plain LOGIN")
    await connection.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    await connection.close()
    primary = Primary()
    plain = await primary.connect(**{**where, "user": "plain"})
    assert await plain.fetchval("SELECT 1") == 1
    assert not primary.leads_elsewhere(plain)
    await plain.close()


async def test_a_standby_is_refused_and_named_as_one(tmp_path: Path) -> None:
    async with primary_and_standby(tmp_path) as (_, standby, _):
        only = {"host": "127.0.0.1", "port": standby.port, "user": NAME, "database": NAME}
        with pytest.raises(ConnectionError, match="standby"):
            await Primary().connect(**only)
