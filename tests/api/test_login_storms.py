"""A storm of logins, as the clients see it who are not part of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest

from app.runtime import Runtime
from tests.conftest import client_of, following, settings_for
from tests.support.answers import seen
from tests.support.factories import PASSWORD, Someone, bearer, login, make_user
from tests.support.locks import hashing_held
from tests.support.statements import statements_of

NEW = "another horse battery staple"


@pytest.fixture
async def runtime(own_database_url: str) -> AsyncIterator[Runtime]:
    """With one hashing thread, a short queue, and this machine as the proxy that is believed."""
    settings = settings_for(
        own_database_url,
        hash_threads=1,
        hash_queue=25,
        trusted_proxies="127.0.0.1",
        # However busy the machine is, only the hashing queue turns logins away.
        database_connect_timeout=60,
        database_pool_timeout=60,
        database_statement_timeout=60,
    )
    async with Runtime.open(settings) as runtime, following(runtime):
        yield runtime


@pytest.fixture
async def client(runtime: Runtime) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(runtime) as client:
        yield client


def storm(
    client: httpx2.AsyncClient, name: Callable[[int], str], *, addresses: int, logins: int = 80
) -> list[asyncio.Task[httpx2.Response]]:
    """So many logins at once."""

    async def sign_in(number: int) -> httpx2.Response:
        form = {"grant_type": "password", "username": name(number), "password": PASSWORD}
        where = {"X-Forwarded-For": f"127.0.0.{number % addresses + 1}"}
        return await client.post("/token", data=form, headers=where)

    return [asyncio.create_task(sign_in(number)) for number in range(logins)]


@pytest.mark.parametrize("addresses", [1, 20])
@pytest.mark.parametrize("names", ["one name", "names that nobody has"])
async def test_in_a_storm_of_logins_others_sign_in_and_passwords_are_changed_and_reset(
    client: httpx2.AsyncClient, runtime: Runtime, addresses: int, names: str
) -> None:
    bob, alice, carol = [await make_user(runtime) for _ in range(3)]
    admin = await bearer(client, await make_user(runtime, "admin"))
    own = await bearer(client, carol)

    def name(number: int) -> str:
        return bob.username if names == "one name" else f"nobody-{number}"

    async def honest(user: Someone) -> httpx2.Response:
        return await login(client, user)

    client.headers["X-Forwarded-For"] = "192.0.2.1"
    async with hashing_held(runtime) as held:
        storming = storm(client, name, addresses=addresses)
        full = 4 if names == "one name" else 24
        await held.until_waiting(full)
        change = {"current_password": PASSWORD, "new_password": NEW}
        others = [
            asyncio.create_task(honest(alice)),
            asyncio.create_task(client.post("/users/me/password", json=change, headers=own)),
            asyncio.create_task(
                client.post(f"/users/{bob.id}/password", json={"password": NEW}, headers=admin)
            ),
            asyncio.create_task(
                client.post("/users", json={"username": "dora", "password": NEW}, headers=admin)
            ),
        ]
        await held.until_waiting(full + 3)
    answers = [answer.status_code for answer in await asyncio.gather(*others)]
    assert answers == [200, 204, 204, 201]
    stormed = Counter(answer.status_code for answer in await asyncio.gather(*storming))
    assert stormed[503] >= 80 - full - 8, stormed


async def test_a_share_is_used_up_at_the_same_call_with_the_same_bytes_for_any_name(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    alice = await make_user(runtime)
    found = []
    for name in (alice.username, "nobody", alice.username.upper()):
        async with hashing_held(runtime) as held:
            storming = storm(client, name.format, addresses=1, logins=10)
            await held.until_waiting(4)
            waiting = set(storming)
            while len(waiting) > 4:
                _, waiting = await asyncio.wait(waiting, return_when="FIRST_COMPLETED")
            with statements_of(runtime) as statements:
                (late,) = storm(client, name.format, addresses=1, logins=1)
                storming.append(late)
                await late
            assert statements == [], "a storm does not get at the database"
        refused = [each.result() for each in storming if each not in waiting]
        assert {answer.headers["retry-after"] for answer in refused} == {"1"}
        found.append([seen(answer) for answer in refused])
        await asyncio.gather(*waiting)
    assert found[0][0][0] == 503
    assert found[0] == found[1] == found[2]
