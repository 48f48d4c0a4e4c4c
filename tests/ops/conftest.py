"""What the tests of logs and of traces have in common."""

from typing import Any

import pytest

from tests.conftest import SECRET
from tests.support.factories import PASSWORD
from tests.support.processes import command


@pytest.fixture
async def settings(own_database_url: str) -> dict[str, Any]:
    """A production service's settings, with an admin in its database."""
    settings = {
        "environment": "production",
        "database_url": own_database_url,
        "secret_keys": SECRET,
    }
    await command("user", "create", "root", "--scope", "admin", stdin=PASSWORD, **settings)
    return settings
