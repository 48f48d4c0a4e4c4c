"""The refusals, and the headers of answers, as OpenAPI declares them."""

from typing import Any

from pydantic import BaseModel

Headers = dict[str, dict[str, Any]]


def _header(description: str, *, required: bool = True, **schema: object) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": schema}


NOT_STORED: Headers = {
    "Cache-Control": _header("No cache may keep this answer.", type="string", const="no-store"),
    "Pragma": _header("The same for HTTP/1.0.", type="string", const="no-cache"),
}
_RETRY = {"Retry-After": _header("Seconds to wait.", type="integer", minimum=1)}
HEADERS: dict[int, Headers] = {
    401: {"WWW-Authenticate": _header("How to authenticate.", type="string")},
    # Only where a scope was short.
    403: {"WWW-Authenticate": _header("Which scopes do.", required=False, type="string")},
    429: _RETRY,
    503: _RETRY,
}
"""By status: the same wherever it occurs."""


class OAuthErrorAnswer(BaseModel):
    """RFC 6749 §5.2."""

    error: str
    error_description: str


class ErrorAnswer(BaseModel):
    """What was wrong and what to do."""

    detail: str


class Problem(BaseModel):
    """One thing that does not fit in a request."""

    type: str
    loc: list[str | int]
    msg: str


class ValidationAnswer(BaseModel):
    """Where and why the input does not fit."""

    detail: list[Problem]


def oauth_answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare an OAuth endpoint's refusals, and that no cache may keep any answer."""
    answers: dict[int | str, dict[str, Any]] = {200: {"headers": NOT_STORED}}
    for status in statuses:
        headers = NOT_STORED | HEADERS.get(status, {})
        answers[status] = {"model": OAuthErrorAnswer, "headers": headers}
    return answers


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The declaration of refusals; 422 is a list of problems, or one text."""
    return {
        status: {
            "model": ValidationAnswer | ErrorAnswer if status == 422 else ErrorAnswer,
            "headers": HEADERS.get(status, {}),
        }
        for status in statuses
    }


PROTECTED = refusals(400, 401, 403, 503)
"""What every protected route may answer beside its own."""
