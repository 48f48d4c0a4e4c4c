"""Who most tests of the API are about."""

import httpx2
import pytest

from app.runtime import Runtime
from tests.support.factories import Someone, bearer, make_user


@pytest.fixture
async def root(client: httpx2.AsyncClient, runtime: Runtime) -> dict[str, str]:
    """The header with the token of an admin."""
    return await bearer(client, await make_user(runtime, "admin", username="root"))


@pytest.fixture
async def alice(runtime: Runtime) -> Someone:
    """Somebody who may read items."""
    return await make_user(runtime, "read:items", username="Alice")
