"""Listening on `::` is listening on every address, of IPv6 and of IPv4."""

import json
import socket
from typing import Any

import httpx2
import pytest

from app.server.serving import _listen
from app.settings import Settings
from tests.conftest import SECRET
from tests.support.processes import SERVE, command, serving

IPV4, IPV6 = "127.0.0.1", "::1"


@pytest.mark.parametrize(
    ("host", "answering"),
    [
        ("::", {IPV4, IPV6}),
        ("[::]", {IPV4, IPV6}),
        ("::0", {IPV4, IPV6}),
        ("0:0:0:0:0:0:0:0", {IPV4, IPV6}),
        ("::1", {IPV6}),
        ("[::1]", {IPV6}),
        ("0.0.0.0", {IPV4}),  # noqa: S104 - tried for a moment
        ("127.0.0.1", {IPV4}),
        ("localhost", {IPV4}),
    ],
)
def test_the_addresses_that_the_host_stands_for_answer(host: str, answering: set[str]) -> None:
    settings = Settings(_env_file=None, host=host)
    with _listen(settings.host, 0) as listener:
        port = listener.getsockname()[1]
        found = set()
        for address in (IPV4, IPV6):
            try:
                socket.create_connection((address, port), 5).close()
            except ConnectionRefusedError:
                continue
            found.add(address)
    assert found == answering


@pytest.mark.parametrize(
    ("host", "issuer"),
    [
        ("::", "http://localhost:8000"),
        ("[::]", "http://localhost:8000"),
        ("::0", "http://localhost:8000"),
        ("0.0.0.0", "http://localhost:8000"),  # noqa: S104
        ("[::1]", "http://[::1]:8000"),
        ("auth.example", "http://auth.example:8000"),
    ],
)
def test_the_default_issuer_can_be_opened_whatever_the_host(host: str, issuer: str) -> None:
    assert Settings(_env_file=None, host=host).token_issuer == issuer


@pytest.mark.system
@pytest.mark.parametrize("workers", [1, 2])
async def test_clients_by_ipv4_and_by_ipv6_are_told_apart_by_their_own_addresses(
    own_database_url: str, workers: int
) -> None:
    settings: dict[str, Any] = {"database_url": own_database_url, "secret_keys": SECRET}
    settings |= {"host": "::", "trusted_proxies": "127.0.0.1"}
    form = {"username": "nobody", "password": "wrong"}
    with serving((*SERVE, "--workers", str(workers)), **settings) as service:
        by_ipv6 = service.url.replace(IPV4, f"[{IPV6}]")
        for url in (service.url, by_ipv6):
            # Only the first one comes from the proxy, by an address of IPv4.
            forwarded = {"X-Forwarded-For": "192.0.2.7"}
            answer = httpx2.post(f"{url}/token", data=form, headers=forwarded)
            assert answer.status_code == 400
        assert httpx2.post(f"{service.url}/token", data=form).status_code == 400
        told = await command("audit", "--action", "login.failed", "--json", **settings)
    addresses = [json.loads(line)["address"] for line in told.splitlines()]
    assert addresses == ["192.0.2.7", IPV6, IPV4]
