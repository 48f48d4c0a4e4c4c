"""Fixtures of the tests of what counts now."""

import pytest

from app.runtime import Runtime
from tests.support.factories import make_user
from tests.support.principals import SCOPE, Login, sign_in


@pytest.fixture
async def alice(own_runtime: Runtime) -> Login:
    return await sign_in(own_runtime, await make_user(own_runtime, SCOPE))
