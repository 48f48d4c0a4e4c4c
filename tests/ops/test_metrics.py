"""What a serving process counts, and that no worker's counts are missed."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from app.identity.hash_queue import TooManyLogins
from app.identity.hash_threads import COMMANDS
from app.mail.outbox import Mail
from app.ops.metrics import Requests, render_metrics
from app.runtime import Runtime
from tests.conftest import SECRET, client_of, settings_for
from tests.support.clock import MovableClock
from tests.support.factories import PASSWORD, bearer, login, make_user
from tests.support.mails import ended, mail_server, sender_of, sending, until_rows, write
from tests.support.metrics import Found, read, total
from tests.support.processes import SERVE, Service, command, eventually, serving, until
from tests.support.serving import workers_of

TOKEN = "a-metrics-token-for-the-tests-0123456789"
SCRAPE = {"Authorization": f"Bearer {TOKEN}"}


def is_served_by(found: Found) -> set[str]:
    """The workers that have answered to /items."""
    return {
        dict(labels)["worker"]
        for (name, labels), value in found.items()
        if name == "scopegate_request_duration_seconds_count"
        and dict(labels)["route"] == "/items"
        and value
    }


async def test_requests_logins_hashes_and_means_are_counted(own_database_url: str) -> None:
    settings = settings_for(own_database_url, metrics_token=TOKEN, hash_queue=1, hash_threads=1)
    async with Runtime.open(settings) as runtime, client_of(runtime) as client:
        user = await make_user(runtime)
        token = await bearer(client, user)
        assert (await login(client, user, password="wrong")).status_code == 400
        assert (await client.get("/items", headers=token)).status_code == 403
        for path in ("/one", "/two"):
            await client.get(path)
        hashes = [
            asyncio.create_task(runtime.hasher.hash(PASSWORD, source=COMMANDS)) for _ in range(3)
        ]
        await asyncio.sleep(0)
        assert runtime.hasher.waiting == 1
        refused = await asyncio.gather(*hashes, return_exceptions=True)
        assert isinstance(refused[2], TooManyLogins)
        found = read((await client.get("/metrics", headers=SCRAPE)).text)
    count = "scopegate_request_duration_seconds_count"
    assert total(found, count, method="POST", route="/token", status="200") == 1
    assert total(found, count, method="POST", route="/token", status="400") == 1
    assert total(found, count, method="GET", route="/items", status="403") == 1
    assert total(found, count, route="other", status="404") == 2
    assert total(found, count) == 5
    outcomes = {
        dict(labels)["outcome"]: value
        for (name, labels), value in found.items()
        if name == "scopegate_logins_total"
    }
    assert outcomes == {"succeeded": 1, "failed": 1, "throttled": 0, "overloaded": 1}
    assert total(found, "scopegate_audit_entries_total", action="user.created") == 1
    assert total(found, "scopegate_hash_wait_seconds_count") == 5, "a user, two logins, two"
    assert 0 < total(found, "scopegate_hash_wait_seconds_sum") < 60
    assert total(found, "scopegate_hash_queue_depth") == 0
    assert total(found, "scopegate_database_connections_used") == 0
    assert total(found, "scopegate_database_connections_limit") == settings.database_pool_size
    assert 0 <= total(found, "scopegate_signing_key_age_seconds") < 600


@pytest.fixture
async def settings(own_database_url: str) -> dict[str, Any]:
    settings = {"database_url": own_database_url, "secret_keys": SECRET, "metrics_token": TOKEN}
    await command("user", "create", "alice", stdin=PASSWORD, **settings)
    return settings


def scrape(service: Service) -> Found:
    answer = httpx2.get(f"{service.url}/metrics", headers=SCRAPE)
    assert answer.status_code == 200
    return read(answer.text)


def ask_until(service: Service, condition: Callable[[Found], bool]) -> int:
    """Ask for /items, each time on a new connection; how often that was until it came true."""
    asked = 0

    def holds() -> bool:
        nonlocal asked
        asked += 1
        assert httpx2.get(f"{service.url}/items").status_code == 401
        return condition(scrape(service))

    eventually(holds)
    return asked


@pytest.mark.system
def test_a_scrape_of_one_worker_tells_what_all_have_counted(settings: dict[str, Any]) -> None:
    with serving([*SERVE, "--workers", "2"], **settings) as service:
        asked = ask_until(service, lambda found: is_served_by(found) == {"0", "1"})
        count = "scopegate_request_duration_seconds_count"
        # A request is counted when its answer is out.
        eventually(lambda: total(scrape(service), count, route="/items", status="401") == asked)
        for _ in range(5):
            assert total(scrape(service), count, route="/items", status="401") == asked
        assert total(scrape(service), "scopegate_feed_fresh") == 2
        # One that is replaced begins anew under its number; the other's counts stay.
        before = workers_of(service)
        os.kill(before[0], signal.SIGKILL)
        eventually(lambda: len(set(workers_of(service)) - {before[0]}) == 2)
        eventually(lambda: total(scrape(service), "scopegate_feed_fresh") == 2)
        after = scrape(service)
        assert 0 < total(after, count, route="/items", status="401") < asked
        assert len(is_served_by(after)) == 1


async def test_mails_are_counted_and_those_that_wait_have_an_age(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    def samples() -> list[float]:
        found = read(render_metrics(own_runtime, Requests()).decode())
        names = ("waiting", "oldest_seconds", "sent_total", "failed_total")
        return [total(found, f"scopegate_mail_{name}") for name in names]

    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        server.recipients["eve@example.com"] = "550 no such user"
        for name in ("bob", "carol", "eve"):
            await write(own_runtime, Mail("test", f"{name}@example.com", {}))
        await until_rows(own_runtime, ended)
        await until(lambda: samples() == [0, 0, 2, 1])
        server.recipients["dan@example.com"] = "451 come again"
        await write(own_runtime, Mail("test", "dan@example.com", {}))
        await until_rows(own_runtime, lambda found: found[-1].last_error)
        own_runtime.mailer.awake.set()
        await until(lambda: samples()[0] == 1)
        clock.move(seconds=20)
        assert 20 <= samples()[1] < 25
