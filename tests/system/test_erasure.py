"""Erasure on two real processes: what one erases, the other stops at once."""

import asyncio

import httpx2

from tests.support.factories import PASSWORD, login
from tests.support.processes import serving
from tests.system.test_replicas import client_of, header, make, settings_of, until_status


async def asked_until(
    client: httpx2.AsyncClient, token: dict[str, str], done: asyncio.Event
) -> set[int]:
    """What a token is answered, again and again."""
    statuses = set()
    while not done.is_set():
        statuses.add((await client.get("/users/me", headers=token)).status_code)
    return statuses


async def test_what_one_process_erases_no_other_accepts(own_database_url: str) -> None:
    settings = settings_of(own_database_url, revocation_bound=2)
    with serving(**settings) as one, serving(**settings) as other:
        async with client_of(one) as here, client_of(other) as there:
            for number in range(5):
                mira = await make(f"mira-{number}", "read:items", settings=settings)
                token, done = await header(here, mira), asyncio.Event()
                await until_status(there, token, 200)
                asking = asyncio.create_task(asked_until(there, token, done))
                body = {"current_password": PASSWORD}
                answer = await here.request("DELETE", "/users/me", json=body, headers=token)
                assert answer.status_code == 204, answer.text
                # Here it counts before the answer.
                assert (await here.get("/users/me", headers=token)).status_code == 401
                await until_status(there, token, 401)
                done.set()
                assert await asking <= {200, 401}
                for client in (here, there):
                    assert (await login(client, mira)).status_code == 400
