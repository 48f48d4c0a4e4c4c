"""What a personal access token looks like, and when it was used last."""

import asyncio
import re
import secrets
import zlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import httpx2
import pytest
from sqlalchemy import select

from app.identity.models import Session
from app.ops.background import background_work
from app.runtime import Runtime
from app.settings import PROJECT
from app.tokens.personal_tokens import (
    ALPHABET,
    PATTERN,
    RANDOM_BITS,
    RANDOM_DIGITS,
    is_whole,
    new_personal_token,
)
from tests.api.test_enforcement import work_of
from tests.conftest import client_of, following, settings_for
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, bearer, make_user, sign_in
from tests.support.personal_tokens import TOKENS, ask_for_token, personal_token
from tests.support.statements import statements_of

PAGE = (PROJECT / "docs/reference/personal-access-tokens.md").read_text()


def value_of(digits: str) -> int:
    """The number that these digits of Base62 spell, worked out another way than the code does."""
    return sum(ALPHABET.index(digit) * 62**place for place, digit in enumerate(digits[::-1]))


def test_a_token_has_160_random_bits_and_their_checksum_as_documented() -> None:
    assert RANDOM_BITS == 160
    assert 62 ** (RANDOM_DIGITS - 1) < 2**RANDOM_BITS <= 62**RANDOM_DIGITS
    made = {new_personal_token() for _ in range(2000)}
    assert len(made) == 2000
    bits = 0
    for token in made:
        assert re.fullmatch(PATTERN, token)
        assert len(token) == 37
        body, check = token[:-6], token[-6:]
        assert value_of(check) == zlib.crc32(body.encode())
        number = value_of(body.removeprefix("sgp_"))
        assert number < 2**RANDOM_BITS
        bits |= number
        assert is_whole(token)
    assert bits == 2**RANDOM_BITS - 1, "each bit is random"


def test_the_smallest_and_the_largest_number_have_all_digits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in (0, 1, 2**RANDOM_BITS - 1):
        monkeypatch.setattr(secrets, "randbits", lambda _, number=number: number)
        token = new_personal_token()
        assert len(token) == 37
        assert is_whole(token)
        assert value_of(token[4:-6]) == number


def test_one_changed_character_anywhere_does_not_fit_the_checksum() -> None:
    token = new_personal_token()
    for place, character in enumerate(token):
        for other in ("0", "z", "_"):
            if other != character:
                assert not is_whole(token[:place] + other + token[place + 1 :])
    for other in (token + "\n", " " + token, token.upper(), token[:-1], token + "0", ""):
        assert not is_whole(other)


def test_the_page_gives_scanners_the_format_and_an_example_that_fits() -> None:
    assert f"`{PATTERN}`" in PAGE
    assert f"`{ALPHABET}`" in PAGE
    (example,) = set(re.findall(PATTERN, PAGE))
    assert is_whole(example)


async def last_use(client: httpx2.AsyncClient, header: dict[str, str]) -> datetime | None:
    """What the list says of the only token."""
    (listed,) = (await client.get(TOKENS, headers=header)).json()["items"]
    used = listed["last_used_at"]
    return None if used is None else datetime.fromisoformat(used)


@pytest.fixture
def write(runtime: Runtime) -> Callable[[], Awaitable[None]]:
    """Do what the background does now and then."""

    async def write_last_uses() -> None:
        await runtime.access_tokens.last_uses.write(runtime.sessions)

    return write_last_uses


async def test_the_last_use_is_noted_to_the_minute(
    client: httpx2.AsyncClient,
    runtime: Runtime,
    clock: MovableClock,
    write: Callable[[], Awaitable[None]],
) -> None:
    user = await make_user(runtime, "read:items")
    token = await personal_token(client, runtime, user, "read:items")
    own = await bearer(client, user)
    await write()
    assert await last_use(client, own) is None
    assert await token.works()
    await write()
    first = await last_use(client, own)
    assert first is not None
    assert abs(first - runtime.now()) < timedelta(minutes=1)
    clock.move(seconds=30)
    assert await token.works()
    await write()
    assert await last_use(client, own) == first, "it was noted less than a minute ago"
    clock.move(seconds=40)
    assert await token.status("/users") == 403, "it was presented, though in vain"
    await write()
    second = await last_use(client, own)
    assert second is not None
    assert second - first > timedelta(minutes=1)
    assert len(runtime.access_tokens.last_uses) == 0


async def test_a_service_that_asks_about_a_token_uses_it(
    client: httpx2.AsyncClient, runtime: Runtime, write: Callable[[], Awaitable[None]]
) -> None:
    user = await make_user(runtime, "read:items")
    token = await personal_token(client, runtime, user, "read:items")
    root = await bearer(client, await make_user(runtime, "admin"))
    await client.post("/introspect", data={"token": token.token}, headers=root)
    await write()
    assert await last_use(client, await bearer(client, user)) is not None


async def test_logins_are_not_noted_and_no_request_writes(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    uses = own_runtime.access_tokens.last_uses
    user = await make_user(own_runtime, "read:items")
    own = await sign_in(own_client, user)
    token = await personal_token(own_client, own_runtime, user, "read:items")
    assert await own.works()
    assert len(uses) == 0
    with statements_of(own_runtime) as run:
        assert await token.works()
    assert not [each for each in run if "UPDATE" in each.upper()]
    async with work_of(own_runtime) as work:
        for _ in range(10):
            assert await token.works()
    assert (work.statements, work.connections) == (0, 0)
    assert len(uses) == 1
    with statements_of(own_runtime) as run:
        await uses.write(own_runtime.sessions)
        await uses.write(own_runtime.sessions)
    assert len(run) == 1, "of all uses together, and of none nothing"


async def test_noting_waits_for_no_lock_and_loses_nothing_to_an_error(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    uses = own_runtime.access_tokens.last_uses
    user = await make_user(own_runtime, "read:items")
    token = await personal_token(own_client, own_runtime, user, "read:items")
    assert await token.works()
    async with own_runtime.engine.connect() as broken:
        await broken.close()
        sessions = own_runtime.sessions
        failing = type(sessions)(bind=broken)
        with pytest.raises(Exception):  # noqa: B017 - whatever it was
            await uses.write(failing)
    assert len(uses) == 1
    async with own_runtime.work(OPERATOR) as work:
        await work.db.execute(select(Session).with_for_update())
        async with asyncio.timeout(20):
            await uses.write(own_runtime.sessions)
    assert len(uses) == 0


async def test_a_process_that_ends_writes_what_it_has_noted(own_database_url: str) -> None:
    settings = settings_for(own_database_url)
    async with (
        Runtime.open(settings) as runtime,
        following(runtime),
        client_of(runtime) as client,
    ):
        user = await make_user(runtime, "read:items")
        token = await personal_token(client, runtime, user, "read:items")
        own = await bearer(client, user)
        async with background_work(runtime, lambda: None):
            assert await token.works()
            assert await last_use(client, own) is None
        assert await last_use(client, own) is not None


async def test_a_token_is_as_long_lived_in_memory_as_in_the_database(
    own_runtime: Runtime, own_client: httpx2.AsyncClient, clock: MovableClock
) -> None:
    user = await make_user(own_runtime, "read:items")
    ends = (own_runtime.now() + timedelta(days=1)).isoformat()
    own = await sign_in(own_client, user)
    made = await ask_for_token(own_client, own_runtime, own.header, "read:items", expires_at=ends)
    header = {"Authorization": f"Bearer {made.json()['token']}"}
    statuses = []
    for hours in (0, 23.9, 0.2):
        clock.move(hours=hours)
        statuses.append((await own_client.get("/users/me", headers=header)).status_code)
    assert statuses == [200, 200, 401]
