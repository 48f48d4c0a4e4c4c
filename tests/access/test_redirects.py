"""Which redirect URI of a request is one that the client has registered."""

import pytest

from app.access.redirects import (
    MAX_REDIRECT_URI,
    MAX_REDIRECT_URIS,
    RedirectUri,
    addresses,
    check_redirect_uris,
    matching_redirect_uri,
)
from app.errors import Refused

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


@pytest.mark.parametrize(
    ("uri", "answered"),
    [
        ("https://app.example/cb", "https://app.example/cb?code=a+b"),
        ("https://app.example/cb?tenant=x", "https://app.example/cb?tenant=x&code=a+b"),
    ],
)
def test_an_answer_is_added_to_the_query_that_is_there(uri: str, answered: str) -> None:
    assert RedirectUri(uri).with_parameters(code="a b", state=None) == answered
    assert RedirectUri(uri).with_parameters(state=None) == uri


def test_twenty_redirect_uris_of_2000_characters_are_the_most() -> None:
    longest = "https://app.example/".ljust(MAX_REDIRECT_URI, "x")
    uris = [longest, *(f"https://app.example/{number}" for number in range(MAX_REDIRECT_URIS - 1))]
    assert check_redirect_uris(uris) == uris
    for unfit in ([longest + "x"], [*uris, "https://app.example/"]):
        with pytest.raises(Refused):
            check_redirect_uris(unfit)


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("app.example", True),
        ("app.a5", True),
        ("app.x", True),
        ("8.8.8.8", True),
        ("127.0.0.1", True),
        ("localhost", True),
        ("127.1", False),
        ("0x7f.1", False),
        ("2130706433", False),
        ("app.5", False),
        ("app.example.5", False),
        ("app.example.", False),
    ],
)
def test_a_host_is_a_name_or_an_address_and_no_address_in_disguise(host: str, taken: bool) -> None:
    uri = f"https://{host}/cb"
    if taken:
        assert check_redirect_uris([uri]) == [uri]
    else:
        with pytest.raises(Refused):
            check_redirect_uris([uri])


def test_the_services_own_pages_are_below_each_name_of_this_machine() -> None:
    assert addresses(["/console", "https://app.example/"], issuer=ISSUER) == [
        "https://auth.example/console",
        "https://app.example/",
    ]
    both = ["https://app.example/", "/console"]
    assert addresses(both, issuer="http://localhost:8000/localhost") == [
        "https://app.example/",
        "http://localhost:8000/localhost/console",
        "http://127.0.0.1:8000/localhost/console",
        "http://[::1]:8000/localhost/console",
    ]
