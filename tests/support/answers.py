"""Answers as a client sees them."""

import httpx2


def seen(answer: httpx2.Response) -> tuple[int, bytes, dict[str, str]]:
    """All that a client sees."""
    headers = {name: text for name, text in answer.headers.items() if name != "x-request-id"}
    return answer.status_code, answer.content, headers


HARDENING = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}


def error_of(answer: httpx2.Response) -> tuple[int, str]:
    """Status and code; on the way, what every refusal has in common."""
    assert set(answer.json()) == {"error", "error_description"}
    assert answer.json()["error_description"].isascii()
    assert_not_stored(answer)
    return answer.status_code, answer.json()["error"]


def assert_not_stored(answer: httpx2.Response) -> None:
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
