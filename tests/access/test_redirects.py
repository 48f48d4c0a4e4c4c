"""Which redirect URI of a request is one that the client has registered."""

import pytest

from app.access.redirects import RedirectUri, matching_redirect_uri

ISSUER = "https://auth.example"


@pytest.mark.parametrize(
    ("given", "registered", "matches"),
    [
        ("https://app.example/cb", "https://app.example/cb", True),
        ("https://app.example/cb?a=b", "https://app.example/cb", False),
        ("https://app.example:8443/cb", "https://app.example/cb", False),
        ("http://127.0.0.1:1/cb", "http://127.0.0.1/cb", True),
        ("http://127.0.0.1/cb", "http://127.0.0.1:8000/cb", True),
        ("http://127.0.0.1:65535/cb", "http://127.0.0.1/cb", True),
        ("http://127.0.0.1:65536/cb", "http://127.0.0.1/cb", False),
        ("http://localhost:1/cb", "http://127.0.0.1/cb", False),
        ("http://127.0.0.1:1/other", "http://127.0.0.1/cb", False),
        ("https://auth.example/console", "/console", True),
        ("https://auth.example:1/console", "/console", False),
    ],
)
def test_only_a_program_on_the_persons_device_chooses_its_port(
    given: str, registered: str, matches: bool
) -> None:
    found = matching_redirect_uri(given, [registered], issuer=ISSUER)
    assert found == (RedirectUri(given) if matches else None)
