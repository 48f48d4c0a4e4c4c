"""What tests of whole processes share."""

import pytest


@pytest.fixture
def plain_http(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """oauthlib refuses a service without TLS unless it is told that this one is a test's."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    return monkeypatch
