"""The form of every answer, whatever was asked."""

import re

import httpx2

DESCRIPTION = re.compile(r"[\x20-\x21\x23-\x5B\x5D-\x7E]+")
BEARER = re.compile(r'Bearer realm="scopegate"(, \w+="[\x20-\x21\x23-\x5B\x5D-\x7E]*")*')
ERRORS = {
    400: {"invalid_request", "invalid_grant", "invalid_scope", "unsupported_grant_type"},
    401: {"invalid_client", "invalid_token"},
    403: {"insufficient_scope"},
    413: {"invalid_request"},
    429: {"temporarily_unavailable"},
}


def assert_oauth_answer(answer: httpx2.Response) -> None:
    """As RFC 6749 §5 has it, on any of OAuth's endpoints."""
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    if answer.status_code == 200:
        return
    error = answer.json()
    assert set(error) == {"error", "error_description"}
    assert error["error"] in ERRORS[answer.status_code], answer.text
    assert DESCRIPTION.fullmatch(error["error_description"])
    if error["error"] == "invalid_client":
        assert answer.headers["www-authenticate"] == 'Basic realm="scopegate"'
    elif answer.status_code in {401, 403}:
        assert BEARER.fullmatch(answer.headers["www-authenticate"])
    assert ("retry-after" in answer.headers) == (answer.status_code == 429)


def assert_challenge(answer: httpx2.Response) -> None:
    """As RFC 6750 §3 has it, on a protected route."""
    assert answer.status_code == 401, answer.text
    assert BEARER.fullmatch(answer.headers["www-authenticate"])
    assert set(answer.json()) == {"detail"}
