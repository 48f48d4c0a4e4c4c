"""The profile of `make fuzz`, which must be known before any test is read; and a client."""

from collections.abc import AsyncIterator
from ipaddress import IPv6Address
from itertools import count
from typing import Any

import httpx2
import pytest
from hypothesis import settings
from starlette.types import Receive, Scope, Send

from app.main import create_app
from app.runtime import Runtime
from tests.conftest import following, settings_for

settings.register_profile("fuzz", max_examples=5_000)

PATIENT: dict[str, Any] = {
    "database_pool_timeout": 120,
    "database_connect_timeout": 120,
    "database_statement_timeout": 120,
}
"""A busy machine is no reason for a 503: every one that is seen is a find."""
NETWORKS = count(int(IPv6Address("2001:db8::")), 1 << 64)


@pytest.fixture
async def own_runtime(own_database_url: str) -> AsyncIterator[Runtime]:
    async with (
        Runtime.open(settings_for(own_database_url, **PATIENT)) as runtime,
        following(runtime),
    ):
        yield runtime


@pytest.fixture
async def anybody(own_runtime: Runtime) -> AsyncIterator[httpx2.AsyncClient]:
    """A client whose every request comes from another network: no throttle is what refuses it."""
    app = create_app(own_runtime.settings)
    app.state.runtime = own_runtime

    async def from_anywhere(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "client": (str(IPv6Address(next(NETWORKS))), 443)}, receive, send)

    transport = httpx2.ASGITransport(app=from_anywhere, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://scopegate.test") as client:
        yield client
