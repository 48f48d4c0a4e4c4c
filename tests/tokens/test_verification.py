"""What is remembered of tokens: their claims, until a change or the time takes them away."""

import asyncio
import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import httpx2
import pytest
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.grants import grant, revoke
from app.db.changes import EVERYTHING, Change
from app.errors import InvalidToken
from app.runtime import Runtime
from app.tokens.lookup import find_token
from app.tokens.models import SigningKey
from app.tokens.opaque import token_digest
from app.tokens.verification import AccessTokens
from tests.conftest import client_of, following, settings_for
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, login, make_user
from tests.support.keys import rotate
from tests.support.locks import HeldSession, held
from tests.support.processes import until
from tests.support.statements import statements_of

MOMENT = timedelta(microseconds=1)


async def access_token(client: httpx2.AsyncClient, runtime: Runtime) -> str:
    answer = await login(client, await make_user(runtime))
    return str(answer.json()["access_token"])


async def test_an_opaque_token_deleted_while_it_is_read_is_not_remembered(
    own_database_url: str,
) -> None:
    """Read, deleted, heard, answered: whoever asks next is refused."""
    settings = settings_for(own_database_url, access_token_format="opaque")
    async with Runtime.open(settings) as runtime, following(runtime), client_of(runtime) as client:
        token = await access_token(client, runtime)
        sessions: async_sessionmaker[AsyncSession]
        sessions = async_sessionmaker(runtime.engine, class_=HeldSession)
        tokens = AccessTokens(
            runtime.issuer.jwt, runtime.principals, sessions, runtime.feed, size=10
        )
        # So that it is not the first change that these hear of.
        tokens.on_change(EVERYTHING)
        async with held(runtime) as hold:
            asking = asyncio.create_task(tokens.read(token, now=runtime.now()))
            await hold.until_held()
            heard = runtime.feed.changes_heard
            async with runtime.engine.begin() as connection:
                await connection.execute(text("DELETE FROM opaque_tokens"))
            await until(lambda: runtime.feed.changes_heard > heard)
        assert await asking, "it was good when it was asked for"
        assert len(tokens) == 0
        with pytest.raises(InvalidToken):
            await tokens.read(token, now=runtime.now())


async def test_a_remembered_token_ends_when_its_key_does(
    own_runtime: Runtime, own_client: httpx2.AsyncClient, clock: MovableClock
) -> None:
    """A key may be given an end that comes before its tokens': nothing is heard when it comes."""
    end = clock() + timedelta(seconds=600)
    heard = own_runtime.feed.changes_heard
    async with async_sessionmaker(own_runtime.engine).begin() as db:
        await db.execute(update(SigningKey).values(retires_at=end))
    await until(lambda: own_runtime.feed.changes_heard > heard)
    token = await access_token(own_client, own_runtime)
    for _ in range(2):
        assert await own_runtime.access_tokens.verify(token, now=end - MOMENT)
    with pytest.raises(InvalidToken):
        await own_runtime.access_tokens.verify(token, now=end)


async def test_a_remembered_token_ends_when_it_expires(
    own_runtime: Runtime, own_client: httpx2.AsyncClient, clock: MovableClock
) -> None:
    token = await access_token(own_client, own_runtime)
    claims, _ = await own_runtime.access_tokens.verify(token, now=clock())
    end = claims.expires_at
    assert await own_runtime.access_tokens.verify(token, now=end - MOMENT)
    with pytest.raises(InvalidToken):
        await own_runtime.access_tokens.verify(token, now=end)
    assert await own_runtime.access_tokens.read(token, now=end), "whoever held it may sign out"


async def test_never_more_tokens_than_its_size_are_remembered(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    tokens = AccessTokens(
        own_runtime.issuer.jwt,
        own_runtime.principals,
        own_runtime.sessions,
        own_runtime.feed,
        size=3,
    )
    for _ in range(5):
        await tokens.read(await access_token(own_client, own_runtime), now=own_runtime.now())
        assert len(tokens) <= 3
    with pytest.raises(InvalidToken):
        await tokens.read("forged", now=own_runtime.now())
    assert len(tokens) == 3


async def test_what_is_remembered_is_asked_once_and_what_is_used_is_kept(
    own_database_url: str,
) -> None:
    settings = settings_for(own_database_url, access_token_format="opaque", cache_size=3)
    async with Runtime.open(settings) as runtime, following(runtime), client_of(runtime) as client:
        first, *others = [await access_token(client, runtime) for _ in range(5)]

        async def asks(token: str) -> bool:
            with statements_of(runtime) as statements:
                await runtime.access_tokens.read(token, now=runtime.now())
            return bool(statements)

        assert await asks(first)
        for token in others:
            assert await asks(token)
            assert not await asks(token)
            assert not await asks(first)
        assert await asks(others[0]), "it was forgotten for later ones"


async def test_a_string_that_no_utf8_spells_is_no_token(runtime: Runtime) -> None:
    for token in ("\ud800", "sgo_\ud800"):
        with pytest.raises(InvalidToken):
            await runtime.access_tokens.read(token, now=runtime.now())


async def test_a_change_takes_away_what_it_may_touch_and_nothing_else(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    tokens, token = own_runtime.access_tokens, await access_token(own_client, own_runtime)
    await tokens.read(token, now=own_runtime.now())
    of_ids = [Change(kind, uuid.uuid4()) for kind in ("user", "session", "client")]
    for change in (*of_ids, Change("scopes"), Change("token", token_digest("another"))):
        tokens.on_change(change)
        assert len(tokens) == 1
    for change in (Change("token", token_digest(token)), Change("keys"), EVERYTHING):
        await tokens.read(token, now=own_runtime.now())
        assert len(tokens) == 1
        tokens.on_change(change)
        assert len(tokens) == 0


async def test_what_is_kept_in_memory_cant_be_presented(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    token = await access_token(own_client, own_runtime)
    await own_runtime.access_tokens.verify(token, now=own_runtime.now())
    assert len(own_runtime.access_tokens) == 1
    assert token not in repr(vars(own_runtime.access_tokens))


async def test_of_a_token_presented_again_nothing_is_computed_until_something_has_changed(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    tokens, counts = own_runtime.access_tokens, own_runtime.principals.counts
    user = await make_user(own_runtime, "read:items", "write:items")
    token = str((await login(own_client, user)).json()["access_token"])
    _, first = await tokens.verify(token, now=own_runtime.now())
    hits = counts.hits
    with statements_of(own_runtime) as statements:
        _, again = await tokens.verify(token, now=own_runtime.now())
        await tokens.verify(token, now=own_runtime.now())
    assert again is first
    assert (statements, counts.hits) == ([], hits + 2)
    async with own_runtime.work(OPERATOR) as work:
        await revoke(work, user.id, "write:items")
    _, changed = await tokens.verify(token, now=own_runtime.now())
    assert (first.scopes - changed.scopes) == {"write:items"}


async def test_who_presents_a_token_again_is_looked_up_anew_once_one_of_their_grants_has_ended(
    own_runtime: Runtime, own_client: httpx2.AsyncClient, clock: MovableClock
) -> None:
    end = clock() + timedelta(minutes=5)
    user = await make_user(own_runtime, "read:items", expires_at=end)
    async with own_runtime.work(OPERATOR) as work:
        await grant(work, user.id, "write:items")
    answer = await login(own_client, user, scope="write:items")
    token = str(answer.json()["access_token"])

    async def asks(now: datetime) -> bool:
        with statements_of(own_runtime) as statements:
            await own_runtime.access_tokens.verify(token, now=now)
        return bool(statements)

    asked = [await asks(now) for now in (end - MOMENT, end - MOMENT, end, end)]
    assert asked == [True, False, True, False]


async def test_a_session_whose_token_is_presented_again_is_remembered_for_longer(
    own_database_url: str,
) -> None:
    settings = settings_for(own_database_url, cache_size=2)
    async with Runtime.open(settings) as runtime, following(runtime), client_of(runtime) as client:
        first, second, third = [await access_token(client, runtime) for _ in range(3)]

        async def asks(token: str) -> bool:
            with statements_of(runtime) as statements:
                await runtime.access_tokens.verify(token, now=runtime.now())
            return bool(statements)

        asked = [await asks(token) for token in (first, second, first, third, first, second)]
        assert asked == [True, True, False, True, False, True]


async def test_a_token_is_asked_about_anew_with_its_own_key_which_counts_until_it_retires(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    token, now = await access_token(client, runtime), runtime.now()
    claims = await runtime.access_tokens.read(token, now=now)
    found = await find_token(
        token,
        runtime.issuer.refresh_tokens,
        runtime.sessions,
        read=partial(runtime.access_tokens.read, now=now),
    )
    assert found is not None
    assert found.key_id is not None
    # Another key counts too, of a later token.
    await rotate(runtime)

    async def counts(key_id: str, *, retires_at: datetime | None) -> bool:
        async with runtime.work(OPERATOR) as work:
            of_token = update(SigningKey).where(SigningKey.kid == claims.key_id)
            await work.db.execute(of_token.values(retires_at=retires_at))
        asked = replace(found, key_id=key_id)
        try:
            principal = await runtime.access_tokens.principal_anew(asked, now=now)
        except InvalidToken:
            return False
        return principal.user_id == found.subject

    assert await counts(found.key_id, retires_at=None)
    assert await counts(found.key_id, retires_at=now + timedelta(seconds=1))
    assert not await counts(found.key_id, retires_at=now - timedelta(seconds=1))
    assert not await counts("another", retires_at=None)
