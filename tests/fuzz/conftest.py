"""The profile of `make fuzz`, which must be known before any test is read; and a client."""

from collections.abc import AsyncIterator
from ipaddress import IPv6Address
from itertools import count

import httpx2
import pytest
from hypothesis import settings
from starlette.types import Receive, Scope, Send

from app.main import create_app
from app.runtime import Runtime

settings.register_profile("fuzz", max_examples=5_000)

NETWORKS = count(int(IPv6Address("2001:db8::")), 1 << 64)


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
