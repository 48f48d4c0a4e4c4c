"""Housekeeping: what goes, what stays, and that one replica at a time does it."""

import asyncio
import uuid
from datetime import timedelta

import httpx2
import pytest
from sqlalchemy import func, insert, select, text, update

from app.access.client_registry import delete_client
from app.db.locks import Lock
from app.identity.models import Consent, FailureBudget, KnownNetwork, Session
from app.identity.networks import KNOWN_FOR
from app.identity.throttle import SLACK
from app.mail.models import OutboxMail
from app.mail.outbox import Mail
from app.ops.background import background_work
from app.ops.housekeeping import BATCH, prune
from app.runtime import Runtime
from app.server.memory import trim_heap
from app.tokens.keys import rotate_key
from app.tokens.models import AuthorizationCode, OpaqueToken, SigningKey
from tests.conftest import settings_for
from tests.support.browsing import PersonsBrowser, register
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, login, make_user
from tests.support.housekeeping import KEPT, house
from tests.support.mails import ended, mail_server, sender_of, sending, until_rows, write


async def count(runtime: Runtime, table: type) -> int:
    async with runtime.sessions() as db:
        return await db.scalar(select(func.count()).select_from(table)) or 0


async def add_sessions(runtime: Runtime, number: int, *, expired: timedelta) -> None:
    user = await make_user(runtime)
    end = runtime.now() - expired
    row = {"user_id": user.id, "scopes": [], "expires_at": end, "idle_expires_at": end}
    async with runtime.work(OPERATOR) as work:
        await work.db.execute(
            insert(Session),
            [{**row, "id": uuid.uuid4(), "refresh_key": b"x"} for _ in range(number)],
        )


async def test_what_has_expired_goes_in_batches_and_the_rest_stays(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, clock: MovableClock
) -> None:
    user = await make_user(own_runtime)
    await login(own_client, user)
    ended = (await login(own_client, user)).json()
    await own_client.post("/revoke", data={"token": ended["refresh_token"]})
    await add_sessions(own_runtime, BATCH + 10, expired=KEPT + timedelta(seconds=1))
    await add_sessions(own_runtime, 5, expired=KEPT - timedelta(minutes=1))
    seen: list[tuple[str, int]] = []
    assert await house(
        own_runtime.sessions,
        now=clock(),
        report=lambda name, removed: seen.append((name, removed)),
    )
    assert [each for each in seen if each[0] == "sessions"] == [
        ("sessions", BATCH),
        ("sessions", 10),
    ]
    assert await count(own_runtime, Session) == 7
    clock.move(days=8)
    await house(own_runtime.sessions, now=clock())
    assert await count(own_runtime, Session) == 1


async def test_retired_keys_go_and_signing_ones_stay(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    async with own_runtime.work(OPERATOR) as work:
        await rotate_key(
            work,
            own_runtime.cipher,
            algorithm="ES256",
            publication=timedelta(),
            overlap=timedelta(minutes=15),
        )
    clock.move(days=8)
    await house(own_runtime.sessions, now=clock())
    assert await count(own_runtime, SigningKey) == 1


async def test_budgets_that_are_whole_and_networks_of_long_ago_go(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, clock: MovableClock
) -> None:
    user = await make_user(own_runtime)
    await login(own_client, user)
    for _ in range(10):
        await login(own_client, user, password="wrong")
    clock.move(seconds=SLACK.total_seconds() - 60)
    await house(own_runtime.sessions, now=clock())
    assert await count(own_runtime, FailureBudget) > 0
    assert (await login(own_client, user)).status_code == 200
    clock.move(seconds=60 + 30)
    await house(own_runtime.sessions, now=clock())
    assert await count(own_runtime, FailureBudget) == 0
    assert await count(own_runtime, KnownNetwork) == 1
    async with own_runtime.work(OPERATOR) as work:
        await work.db.execute(update(KnownNetwork).values(signed_in_at=clock() - KNOWN_FOR))
    await house(own_runtime.sessions, now=clock())
    assert await count(own_runtime, KnownNetwork) == 0


async def test_codes_go_a_day_after_their_end_and_consents_with_their_client(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    alice = await make_user(own_runtime, "read:items")
    app, other = [await register(own_runtime, name) for name in ("app", "other")]
    browser = PersonsBrowser.of(own_runtime)
    async with browser.client:
        await browser.sign_in(alice)
        await browser.code(app)
        await browser.code(other)
    async with own_runtime.work(OPERATOR) as work:
        await delete_client(work, "app")
    await house(own_runtime.sessions, now=clock())
    assert await count(own_runtime, AuthorizationCode) == 2, "one that comes again is recognised"
    assert await count(own_runtime, Consent) == 1
    clock.move(seconds=24 * 3600 + 61)
    await house(own_runtime.sessions, now=clock())
    assert await count(own_runtime, AuthorizationCode) == 0


async def test_while_one_replica_is_at_it_another_leaves_it(own_runtime: Runtime) -> None:
    async with own_runtime.sessions() as db:
        await db.execute(text(f"SELECT pg_advisory_lock({Lock.HOUSEKEEPING.value})"))
        assert not await house(own_runtime.sessions, now=own_runtime.now())
        await db.execute(text(f"SELECT pg_advisory_unlock({Lock.HOUSEKEEPING.value})"))
    assert await house(own_runtime.sessions, now=own_runtime.now())


async def test_a_serving_process_houses_and_survives_a_failing_round(
    own_database_url: str, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(
        own_database_url,
        access_token_format="opaque",
        housekeeping_interval=0.01,
        revocation_bound=0.02,
    )
    from tests.conftest import client_of

    async with Runtime.open(settings, now=clock) as runtime, client_of(runtime) as client:
        await login(client, await make_user(runtime))
        assert await count(runtime, OpaqueToken) == 1
        rounds = 0

        async def failing_once(*arguments: object, **named: object) -> bool:
            nonlocal rounds
            rounds += 1
            if rounds == 1:
                raise ConnectionError("the database is away")
            return await prune(*arguments, **named)  # type: ignore[arg-type]

        monkeypatch.setattr("app.ops.background.prune", failing_once)
        clock.move(seconds=901)
        async with background_work(runtime, trim_heap), asyncio.timeout(30):
            while await count(runtime, OpaqueToken):
                await asyncio.sleep(0.01)
        assert rounds >= 2


async def test_mails_go_a_week_after_their_end_and_two_weeks_after_they_were_written(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        server.recipients["eve@example.com"] = "550 no such user"
        for name in ("bob", "eve"):
            await write(own_runtime, Mail("test", f"{name}@example.com", {}))
        await until_rows(own_runtime, ended)
    await write(own_runtime, Mail("test", "bob@example.com", {}))
    for days, left in ((6.9, 3), (0.2, 1), (6.8, 1), (0.2, 0)):
        clock.move(days=days)
        await house(own_runtime.sessions, now=clock())
        assert await count(own_runtime, OutboxMail) == left
