"""What only two real processes on one database can show: refresh races and key rotation."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any

import httpx2
import jwt
import pytest

from tests.conftest import SECRET
from tests.support.browsing import CALLBACK, Application, PersonsBrowser
from tests.support.factories import PASSWORD, Someone, login, refresh
from tests.support.processes import Service, command, serving

pytestmark = pytest.mark.system
USES = 50
ROUNDS = 20
# Replicas have one name, whatever they listen on.
ISSUER = "https://auth.example"
LIMITS = httpx2.Limits(max_connections=16)


def settings_of(database_url: str) -> dict[str, Any]:
    return {
        "database_url": database_url,
        "secret_keys": SECRET,
        "issuer": ISSUER,
        "revocation_bound": 1,
        "key_publication": 2,
    }


async def make_alice(settings: dict[str, Any]) -> Someone:
    create = ("user", "create", "alice", "--scope", "read:items", "--json")
    made = await command(*create, stdin=PASSWORD, **settings)
    return Someone(json.loads(made)["id"], "alice")


def client_of(service: Service) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=service.url, limits=LIMITS, timeout=60)


async def test_fifty_uses_of_one_refresh_token_at_once_give_one_successor(
    own_database_url: str,
) -> None:
    """Two processes, many rounds: never two live successors, never a 500; all callers go on."""
    settings = settings_of(own_database_url)
    with serving(**settings) as one, serving(**settings) as other:
        async with client_of(one) as client, client_of(other) as elsewhere:
            alice = await make_alice(settings)
            token = (await login(client, alice)).json()["refresh_token"]
            for _ in range(ROUNDS):
                both = cycle((client, elsewhere))
                answers = await asyncio.gather(*(refresh(next(both), token) for _ in range(USES)))
                assert {answer.status_code for answer in answers} == {200}
                successors = {answer.json()["refresh_token"] for answer in answers}
                assert len(successors) == 1
                (token,) = successors
            headers = {"Authorization": f"Bearer {answers[0].json()['access_token']}"}
            assert (await elsewhere.get("/users/me", headers=headers)).status_code == 200


async def test_of_fifty_redemptions_of_one_code_one_process_gives_tokens_once(
    own_database_url: str,
) -> None:
    """Two processes, many rounds: one winner, whose session a later valid redemption ends."""
    # A cookie of an https issuer would not be sent here.
    settings = {**settings_of(own_database_url), "issuer": "http://auth.example"}
    with serving(**settings) as one, serving(**settings) as other:
        async with client_of(one) as client, client_of(other) as elsewhere:
            alice = await make_alice(settings)
            words = ("client", "create", "An app", "--client-id", "app", "--redirect-uri", CALLBACK)
            await command(*words, **settings)
            app, browser = Application("app"), PersonsBrowser(client)
            await browser.sign_in(alice)
            for _ in range(ROUNDS):
                code, both = await browser.code(app), cycle((client, elsewhere))
                answers = await asyncio.gather(*(app.redeem(next(both), code) for _ in range(USES)))
                statuses = sorted(answer.status_code for answer in answers)
                assert statuses == [200] + [400] * (USES - 1)
                (won,) = [answer.json() for answer in answers if answer.status_code == 200]
                header = {"Authorization": f"Bearer {won['access_token']}"}
                for each in (client, elsewhere):
                    await eventually_refused(each, header)


async def eventually_refused(client: httpx2.AsyncClient, header: dict[str, str]) -> None:
    """Wait until the token is refused, for as long as a revocation may take."""
    async with asyncio.timeout(5):
        while (await client.get("/users/me", headers=header)).status_code != 401:
            await asyncio.sleep(0.01)


async def test_a_personal_token_that_is_revoked_while_it_is_in_use_is_refused_on_both(
    own_database_url: str,
) -> None:
    """Many rounds: the process that revokes refuses at once, the other one a moment later."""
    settings = settings_of(own_database_url)
    with serving(**settings) as one, serving(**settings) as other:
        async with client_of(one) as client, client_of(other) as elsewhere:
            alice = await make_alice(settings)
            own = {"Authorization": f"Bearer {(await login(client, alice)).json()['access_token']}"}
            ends = (datetime.now(UTC) + timedelta(days=1)).isoformat()
            body = {"name": "job", "scopes": ["read:items"], "expires_at": ends}
            for _ in range(ROUNDS):
                made = (await client.post("/users/me/tokens", json=body, headers=own)).json()
                header = {"Authorization": f"Bearer {made['token']}"}
                for each in (client, elsewhere):
                    assert (await each.get("/items", headers=header)).status_code == 200
                using = asyncio.create_task(until_it_is_refused(elsewhere, header))
                path = f"/users/me/tokens/{made['id']}"
                assert (await client.delete(path, headers=own)).status_code == 204
                assert (await client.get("/items", headers=header)).status_code == 401
                assert await using == {200, 401}


async def until_it_is_refused(client: httpx2.AsyncClient, header: dict[str, str]) -> set[int]:
    """Use the token without a pause until it is refused; all that was answered."""
    seen: set[int] = set()
    async with asyncio.timeout(5):
        while 401 not in seen:
            seen.add((await client.get("/items", headers=header)).status_code)
    return seen


async def test_a_rotation_under_load_refuses_no_request(own_database_url: str) -> None:
    """Two processes: tokens of both keys verify, the JWKS shows both, a retired key is gone."""
    settings = settings_of(own_database_url)
    with serving(**settings) as one, serving(**settings) as other:
        async with client_of(one) as client, client_of(other) as elsewhere:
            alice = await make_alice(settings)
            old_token = (await login(client, alice)).json()["access_token"]
            of_id_tokens = await kids(client) - {old := kid_of(old_token)}
            seen: set[str] = set()
            done = asyncio.Event()

            async def use(issuing: httpx2.AsyncClient, verifying: httpx2.AsyncClient) -> None:
                pair = (await login(issuing, alice)).json()
                while not done.is_set():
                    answer = await refresh(issuing, pair["refresh_token"])
                    assert answer.status_code == 200, answer.text
                    pair = answer.json()
                    seen.add(kid_of(pair["access_token"]))
                    for token in (pair["access_token"], old_token):
                        assert await status(verifying, token) == 200

            load = [
                asyncio.create_task(use(client, elsewhere)),
                asyncio.create_task(use(elsewhere, client)),
            ]
            async with asyncio.timeout(60):
                made = await command("key", "rotate", **settings)
                new = made.split()[3]
                while seen != {old, new}:
                    await asyncio.sleep(0.05)
                    await finished_early(load)
                assert await kids(client) == await kids(elsewhere) == {old, new} | of_id_tokens
                done.set()
                await asyncio.gather(*load)
                await command("key", "retire", old, **settings)
                for each in (client, elsewhere):
                    while await kids(each) != {new} | of_id_tokens:
                        await asyncio.sleep(0.05)
                    assert await status(each, old_token) == 401


async def finished_early(load: list[asyncio.Task[None]]) -> None:
    for task in load:
        if task.done():
            await task


async def kids(client: httpx2.AsyncClient) -> set[str]:
    return {key["kid"] for key in (await client.get("/.well-known/jwks.json")).json()["keys"]}


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


async def status(client: httpx2.AsyncClient, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return (await client.get("/users/me", headers=headers)).status_code
