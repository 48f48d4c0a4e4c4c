"""Services that hostile clients meet, and that are ended."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conftest import SECRET
from tests.support import databases
from tests.support.factories import PASSWORD
from tests.support.processes import Service, command, serving


@pytest.fixture(scope="module")
async def service(server_url: str, template: None) -> AsyncIterator[Service]:
    """A service that soon loses its patience."""
    name = await databases.clone_template(server_url)
    url = databases.database_url(server_url, name)
    with serving(database_url=url, secret_keys=SECRET, request_timeout=1, hsts=60) as service:
        yield service
        assert service.process.poll() is None
        service.terminate()
        complaints = [line for line in service.complaints() if "Invalid HTTP" not in line]
        assert complaints == [], service.output()
    await databases.drop(server_url, name)


@pytest.fixture
async def settings(own_database_url: str) -> dict[str, Any]:
    """A service's settings, with alice in its database."""
    settings: dict[str, Any] = {"database_url": own_database_url, "secret_keys": SECRET}
    await command("user", "create", "alice", "--scope", "read:items", stdin=PASSWORD, **settings)
    return settings
