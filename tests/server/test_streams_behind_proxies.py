"""Event streams to a reader that knows nothing of Scopegate, also through real proxies.

Each frame is passed on at once, and no stream is cut off.
"""

import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import httpx2
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse

from tests.conftest import SECRET
from tests.support import databases
from tests.support.factories import PASSWORD
from tests.support.postgres_programs import libpq_url
from tests.support.processes import PATIENCE, Service, command, eventually, serving
from tests.support.proxies import BY_DEFAULT, PROXIES, running_before

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        not all(map(shutil.which, PROXIES)) and not os.environ.get("CI"),
        reason="no HAProxy or nginx",
    ),
]
LONGEST_TIMEOUT = 30.0  # seconds: of the shipped HAProxy configuration


@pytest.fixture(scope="module")
async def database_url(server_url: str, template: None) -> AsyncIterator[str]:
    name = await databases.clone_template(server_url)
    url = databases.database_url(server_url, name)
    settings: dict[str, Any] = {"database_url": url, "secret_keys": SECRET}
    await command("user", "create", "alice", "--scope", "read:events", stdin=PASSWORD, **settings)
    yield url
    await databases.drop(server_url, name)


@pytest.fixture(scope="module")
def service(database_url: str) -> Iterator[Service]:
    with serving(database_url=database_url, secret_keys=SECRET) as service:
        yield service


@asynccontextmanager
async def frames_of(url: str, token: str) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
    """Follow the events at this URL, by httpx-sse."""
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx.AsyncClient(timeout=PATIENCE) as client,
        aconnect_sse(client, "GET", f"{url}/events", headers=headers) as source,
        aclosing(source.aiter_sse()) as frames,
    ):
        yield frames


@pytest.mark.parametrize("proxy", [None, *PROXIES, BY_DEFAULT])
@pytest.mark.parametrize(
    "seconds", [0.0, pytest.param(LONGEST_TIMEOUT + 5, marks=pytest.mark.long)]
)
async def test_each_frame_comes_through_before_the_next_is_sent(
    service: Service, database_url: str, proxy: str | None, tmp_path: Path, seconds: float
) -> None:
    """Also when nothing but beats has been sent for longer than the proxy waits for anything."""
    connection = await asyncpg.connect(libpq_url(database_url))
    reached = running_before(service.url, proxy, tmp_path) if proxy else nullcontext(service.url)
    with reached as url:
        eventually(lambda: httpx2.get(f"{url}/health/live").status_code == 200)
        form = {"username": "alice", "password": PASSWORD}
        token = httpx2.post(f"{url}/token", data=form).json()["access_token"]
        began = time.monotonic()
        async with frames_of(url, token) as frames:
            first = await anext(frames)
            assert first.event == "hello"
            hello, beats = first.json(), 0
            while beats < 3 or time.monotonic() - began < seconds:
                frame = await anext(frames)
                assert frame.event == "beat"
                beats += 1
                heard_up_to = began + (frame.json()["through"] - hello["now"]) / 1000
                assert time.monotonic() - heard_up_to < hello["bound"] / 1000, "it is fresh"
            for _ in range(3):
                await connection.execute("UPDATE signing_keys SET algorithm = algorithm")
                while (await anext(frames)).event != "set":
                    pass
    await connection.close()
