"""Where a request is from: a proxy is believed when it is trusted, and nobody else."""

from dataclasses import replace
from ipaddress import ip_network

import pytest
from sqlalchemy import select

from app.api.addresses import client_address
from app.audit.models import AuditEntry
from app.identity.models import KnownNetwork, Session
from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.factories import login, make_user

PROXIES = [ip_network("10.0.0.0/8"), ip_network("2001:db8:aaaa::/48")]


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "found"),
    [
        # Nobody who is trusted says anything.
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        # The right-most that is no proxy, whatever the client wrote before it.
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7,10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9", "198.51.100.7", "10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7, 10.0.0.3", "10.0.0.2"], "198.51.100.7"),
        ("2001:db8:aaaa::1", ["2001:db8:1::7"], "2001:db8:1::7"),
        # Only proxies: the one that is farthest away has asked.
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        # Junk: whoever wrote it is the last that is known.
        ("10.0.0.1", ["198.51.100.7, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7, <script>, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7:junk"], "10.0.0.1"),
        ("10.0.0.1", ["999.0.0.1"], "10.0.0.1"),
        ("10.0.0.1", ["[2001:db8:1::7"], "10.0.0.1"),
        ("10.0.0.1", ["", " , "], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7, ,"], "198.51.100.7"),
        ("10.0.0.1", ["x" * 60_000], "10.0.0.1"),
        # More than any chain of proxies: what is beyond them is not looked at.
        ("10.0.0.1", ["198.51.100.7" + ", 10.0.0.2" * 33], "10.0.0.2"),
        ("10.0.0.1", ["198.51.100.7" + ", 10.0.0.2" * 32], "198.51.100.7"),
        ("10.0.0.1", ["10.0.0.2," * 5_000, "198.51.100.7"], "198.51.100.7"),
        ("192.0.2.1", ["," * 30_000], "192.0.2.1"),
        # Ports, brackets, zones, other spellings.
        ("10.0.0.1", ["198.51.100.7:4711"], "198.51.100.7"),
        ("10.0.0.1", ["[2001:db8:1::7]:4711"], "2001:db8:1::7"),
        ("10.0.0.1", ["[2001:DB8:1:0:0:0:0:7]"], "2001:db8:1::7"),
        ("10.0.0.1", ["198.51.100.7, 10.0.0.2:443"], "198.51.100.7"),
        ("10.0.0.1", ["fe80::1%<script>"], "fe80::1"),
        # An IPv4 address on a socket that takes both is that IPv4 address, a proxy's too.
        ("::ffff:192.0.2.1", [], "192.0.2.1"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.7, ::ffff:10.0.0.2"], "198.51.100.7"),
        # So is one behind NAT64.
        ("64:ff9b::c000:201", [], "192.0.2.1"),
        ("64:ff9b:1::c000:201", [], "64:ff9b:1::c000:201"),
        # No address at all: a Unix socket.
        (None, ["198.51.100.7"], None),
        ("testclient", ["198.51.100.7"], "testclient"),
    ],
)
def test_the_right_most_address_that_is_no_trusted_proxys_counts(
    peer: str | None, forwarded_for: list[str], found: str | None
) -> None:
    assert client_address(peer, forwarded_for, trusted=PROXIES) == found


@pytest.mark.parametrize(
    ("trusted", "address", "network"),
    [("127.0.0.1", "2001:db8::7", "2001:db8::/64"), ("10.0.0.0/8", "127.0.0.1", "127.0.0.1")],
)
async def test_forwarded_for_counts_from_a_trusted_proxy_alone_and_everywhere(
    runtime: Runtime, trusted: str, address: str, network: str
) -> None:
    settings = runtime.settings.model_copy(update={"trusted_proxies": (ip_network(trusted),)})
    user = await make_user(runtime)
    async with client_of(replace(runtime, settings=settings)) as client:
        client.headers["X-Forwarded-For"] = "203.0.113.9, 2001:db8::7"
        client.headers["X-Forwarded-Proto"] = "https"
        client.headers["X-Forwarded-Host"] = "evil.example"
        assert (await login(client, user)).status_code == 200
        metadata = (await client.get("/.well-known/oauth-authorization-server")).json()
    assert metadata["issuer"] == runtime.settings.token_issuer
    async with runtime.sessions() as db:
        assert await db.scalar(select(Session.address)) == address
        assert await db.scalar(select(KnownNetwork.network)) == network
        told = select(AuditEntry.address).where(AuditEntry.action == "login.succeeded")
        assert await db.scalar(told) == address
