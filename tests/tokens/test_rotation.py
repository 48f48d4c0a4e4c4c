"""Signing keys change while the service runs: published, signing, verifying, retired."""

import asyncio
import secrets
from dataclasses import replace
from datetime import timedelta

import httpx2
import jwt
import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Unavailable
from app.runtime import Runtime
from app.tokens.keys import (
    KeyNotFound,
    LastSigningKey,
    list_keys,
    retire_key,
    rewrap_keys,
    rotate_key,
)
from app.tokens.models import ACCESS_TOKENS, SigningKey
from tests.conftest import SECRET, client_of, settings_for
from tests.support.audit import told
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, bearer, make_user
from tests.support.keys import rotate

OTHER_SECRET = "another-secret-of-the-tests-9876543210"


async def published(client: httpx2.AsyncClient) -> set[str]:
    return {key["kid"] for key in (await client.get("/.well-known/jwks.json")).json()["keys"]}


async def works(client: httpx2.AsyncClient, headers: dict[str, str]) -> bool:
    return (await client.get("/users/me", headers=headers)).status_code == 200


async def test_a_key_is_published_then_signs_then_the_old_one_retires(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, clock: MovableClock
) -> None:
    user = await make_user(own_runtime)
    old = own_runtime.keyring.signing(clock()).kid
    new = (await rotate(own_runtime)).kid
    await own_runtime.keyring.load()
    assert await published(own_client) == {old, new}
    assert own_runtime.keyring.signing(clock()).kid == old, "published before it signs"
    clock.move(seconds=299)
    last_of_old = await bearer(own_client, user)
    clock.move(seconds=2)
    assert own_runtime.keyring.signing(clock()).kid == new
    first_of_new = await bearer(own_client, user)
    clock.move(seconds=890)
    assert await works(own_client, last_of_old), "verifies until its last token has expired"
    clock.move(seconds=10)
    assert await published(own_client) == {new}
    assert not await works(own_client, last_of_old)
    clock.move(seconds=-20)
    assert await works(own_client, first_of_new)


async def keys_of_access_tokens(db: AsyncSession) -> list[SigningKey]:
    return [each for each in await list_keys(db) if each.purpose == ACCESS_TOKENS]


async def test_a_key_is_retired_only_while_another_signs_now_and_another_stays(
    runtime: Runtime,
) -> None:
    async with runtime.work(OPERATOR) as work:
        now, moment = work.now, timedelta(microseconds=1)
        signs_from, rotated_out = now + timedelta(seconds=10), now + timedelta(seconds=30)
        (first,) = await keys_of_access_tokens(work.db)
        second = await rotate_key(
            work,
            runtime.cipher,
            algorithm="ES256",
            publication=timedelta(seconds=10),
            overlap=timedelta(seconds=20),
        )
        await work.db.refresh(first)
        assert (second.signs_from, first.retires_at) == (signs_from, rotated_out)
        with pytest.raises(LastSigningKey):
            await retire_key(work, second.kid)
        with pytest.raises(LastSigningKey):
            await retire_key(replace(work, now=signs_from - moment), first.kid)
        await retire_key(replace(work, now=signs_from), first.kid)
        assert [each.kid for each in await keys_of_access_tokens(work.db)] == [
            first.kid,
            second.kid,
        ]
        await work.db.refresh(first)
        assert first.retires_at == signs_from
        made = (None, None, {"made": second.kid, "algorithm": "ES256"})
        retired = (None, None, {"retired": first.kid})
        assert (await told(work.db, "key.rotated"))[-2:] == [made, retired]


async def test_a_second_rotation_leaves_a_key_that_retires_its_end(runtime: Runtime) -> None:
    async with runtime.work(OPERATOR) as work:
        (first,) = await keys_of_access_tokens(work.db)
    await rotate(runtime, publication=10)
    async with runtime.work(OPERATOR) as work:
        end = (await work.db.get_one(SigningKey, first.kid)).retires_at
    assert end is not None
    await rotate(runtime, publication=1000)
    async with runtime.work(OPERATOR) as work:
        assert (await work.db.get_one(SigningKey, first.kid)).retires_at == end
        ends = [key.retires_at for key in await keys_of_access_tokens(work.db)]
    assert ends.count(None) == 1


async def test_a_key_whose_end_has_come_signs_no_more_when_another_is_to_be_retired(
    runtime: Runtime,
) -> None:
    async with runtime.work(OPERATOR) as work:
        (leaked,) = await keys_of_access_tokens(work.db)
        now = work.now
        soon = now + timedelta(seconds=1)
        for signs_from, retires_at in ((soon, None), (now, now)):
            work.db.add(
                SigningKey(
                    kid=secrets.token_hex(12),
                    algorithm="ES256",
                    encrypted_private_key=leaked.encrypted_private_key,
                    signs_from=signs_from,
                    retires_at=retires_at,
                )
            )
        await work.db.flush()
        in_order = [leaked.signs_from, now, soon]
        assert [each.signs_from for each in await keys_of_access_tokens(work.db)] == in_order
        with pytest.raises(LastSigningKey):
            await retire_key(work, leaked.kid)


async def test_a_key_that_waits_never_signs_once_another_signs_at_once(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    for _ in range(2):
        await rotate(own_runtime)
        clock.move(seconds=1)
    at_once = (await rotate(own_runtime, publication=0)).kid
    await own_runtime.keyring.load()
    for _ in range(40):
        assert own_runtime.keyring.signing(clock()).kid == at_once
        clock.move(seconds=30)


async def test_a_key_that_has_leaked_is_retired_at_once(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, clock: MovableClock
) -> None:
    user = await make_user(own_runtime)
    token = await bearer(own_client, user)
    old = own_runtime.keyring.signing(clock()).kid
    async with own_runtime.work(OPERATOR) as work:
        with pytest.raises(LastSigningKey):
            await retire_key(work, old)
        with pytest.raises(KeyNotFound):
            await retire_key(work, "no-such-key")
    new = (await rotate(own_runtime, publication=0)).kid
    async with own_runtime.work(OPERATOR) as work:
        await retire_key(work, old)
    await own_runtime.keyring.load()
    assert await published(own_client) == {new}
    assert not await works(own_client, token)
    assert await works(own_client, await bearer(own_client, user))


async def test_an_unknown_key_id_makes_the_keyring_look_once_and_not_at_every_token(
    own_database_url: str, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(own_database_url)
    async with (
        Runtime.open(settings, now=clock) as one,
        Runtime.open(settings, now=clock) as other,
        client_of(one) as client,
        client_of(other) as elsewhere,
    ):
        user = await make_user(one)
        await rotate(one, publication=0)
        await one.keyring.load()
        token = await bearer(client, user)
        other.keyring._tried_at -= 2
        assert await works(elsewhere, token), "made by the other replica a moment ago"
        loads = 0
        load = other.keyring.load

        async def counted() -> None:
            nonlocal loads
            loads += 1
            await load()

        monkeypatch.setattr(other.keyring, "load", counted)
        for _ in range(20):
            assert await other.keyring.find("made-up", now=clock()) is None
        assert loads == 0


async def test_three_hundred_forged_tokens_at_once_cause_one_look_into_the_database(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    """Whoever holds no token at all must not be able to take the connections from those who do."""
    await own_runtime.keyring.refresh()
    own_runtime.keyring._tried_at -= 2
    statements = []
    engine = own_runtime.engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    forged = [jwt.encode({}, "x" * 32, headers={"kid": secrets.token_hex(12)}) for _ in range(300)]
    answers = await asyncio.gather(
        *(own_client.get("/users/me", headers={"Authorization": f"Bearer {t}"}) for t in forged)
    )
    assert {answer.status_code for answer in answers} == {401}
    assert len(statements) == 1


async def test_the_key_that_is_to_sign_next_cant_be_retired(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    new = (await rotate(own_runtime)).kid
    async with own_runtime.work(OPERATOR) as work:
        with pytest.raises(LastSigningKey):
            await retire_key(work, new)


async def test_a_key_under_an_unknown_secret_does_no_harm_to_the_others(
    own_database_url: str, clock: MovableClock
) -> None:
    settings = settings_for(own_database_url)
    both = settings_for(own_database_url, secret_keys=f"{OTHER_SECRET},{SECRET}")
    async with (
        Runtime.open(settings, now=clock) as behind,
        Runtime.open(both, now=clock) as ahead,
        client_of(behind) as client,
        client_of(ahead) as elsewhere,
    ):
        user = await make_user(behind)
        old = await bearer(client, user)
        new_kid = (await rotate(ahead, publication=0)).kid
        await ahead.keyring.load()
        new = await bearer(elsewhere, user)
        await behind.keyring.load()
        assert behind.keyring.unreadable == [new_kid]
        assert await works(client, old)
        assert not await works(client, new), "401, not 500"
        assert (await client.get("/health/ready")).status_code == 200


async def test_without_a_usable_key_there_is_no_token_and_no_500(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, clock: MovableClock
) -> None:
    user = await make_user(own_runtime)
    clock.move(days=-1)
    with pytest.raises(Unavailable):
        own_runtime.keyring.signing(clock())
    assert (await own_client.get("/health/ready")).status_code == 503
    clock.move(days=1)
    assert await bearer(own_client, user)


async def test_rewrapping_lets_an_old_secret_go(own_database_url: str) -> None:
    async with Runtime.open(settings_for(own_database_url)) as runtime:
        kid = runtime.keyring.signing(runtime.now()).kid
    both = settings_for(own_database_url, secret_keys=f"{OTHER_SECRET},{SECRET}")
    async with Runtime.open(both) as runtime, runtime.work(OPERATOR) as work:
        assert await rewrap_keys(work, runtime.cipher) == 1
        assert len(await list_keys(work.db)) == 1
    alone = settings_for(own_database_url, secret_keys=OTHER_SECRET)
    async with Runtime.open(alone) as runtime:
        assert runtime.keyring.signing(runtime.now()).kid == kid
