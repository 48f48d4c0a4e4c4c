"""Alice, her browser, and an application."""

from collections.abc import AsyncIterator

import pytest

from app.runtime import Runtime
from tests.support.browsing import Application, PersonsBrowser, register
from tests.support.factories import Someone, make_user


@pytest.fixture
async def alice(runtime: Runtime) -> Someone:
    return await make_user(runtime, "read:items", "write:items", username="Alice")


@pytest.fixture
async def app(runtime: Runtime) -> Application:
    return await register(runtime)


@pytest.fixture
async def browser(runtime: Runtime) -> AsyncIterator[PersonsBrowser]:
    """A browser in which nobody is signed in."""
    browser = PersonsBrowser.of(runtime)
    async with browser.client:
        yield browser


@pytest.fixture
async def signed_in(browser: PersonsBrowser, alice: Someone) -> PersonsBrowser:
    """Alice's browser, in which she is signed in."""
    assert (await browser.sign_in(alice)).status_code == 303
    return browser
