"""The refusals, and the headers of answers, as OpenAPI declares them."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

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


DESCRIBED_ONLY = ConfigDict(defer_build=True)
"""For models that validate nothing: FastAPI would build a validator a route and status."""


class OAuthErrorAnswer(BaseModel):
    """RFC 6749 §5.2."""

    model_config = DESCRIBED_ONLY

    error: str
    error_description: str


class ErrorAnswer(BaseModel):
    """What was wrong and what to do."""

    model_config = DESCRIBED_ONLY

    detail: str


class Problem(BaseModel):
    """One thing that does not fit in a request."""

    type: str
    loc: list[str | int]
    msg: str


class ValidationAnswer(BaseModel):
    """Where and why the input does not fit."""

    detail: list[Problem]


EXAMPLES: dict[int, list[object]] = {
    400: ["Send one Authorization header, not several."],
    401: ["The access token is invalid, expired or revoked."],
    403: ["This needs the scope: write:users.", "You don't hold this scope."],
    404: ["There is no such user."],
    409: ["That username is taken: choose another."],
    413: ["The body is larger than 1048576 bytes."],
    422: [
        [{"type": "missing", "loc": ["body", "username"], "msg": "Field required"}],
        "A password has at least 8 bytes.",
    ],
    429: ["There were too many wrong passwords or secrets."],
    503: ["The database does not answer: try again in a moment."],
}
"""By status: what `detail` may be."""
OAUTH_EXAMPLES: dict[int, list[tuple[str, str]]] = {
    400: [("invalid_request", "The parameter token is missing.")],
    401: [("invalid_client", "There is no such client, or its secret is wrong.")],
    403: [("insufficient_scope", "This needs the scope: introspect.")],
    413: [("invalid_request", "The form is larger than 16384 bytes.")],
    429: [("temporarily_unavailable", "There were too many wrong passwords or secrets.")],
    503: [("temporarily_unavailable", "The database does not answer: try again in a moment.")],
}
"""By status: which errors there may be, with their descriptions."""


def oauth_answers(
    *statuses: int, also: tuple[tuple[str, str], ...] = ()
) -> dict[int | str, dict[str, Any]]:
    """Declare an OAuth endpoint's refusals, and that no cache may keep any answer.

    `also` are errors of status 400 that this endpoint has beside the others.
    """
    answers: dict[int | str, dict[str, Any]] = {200: {"headers": NOT_STORED}}
    for status in statuses:
        errors = [*(also if status == 400 else ()), *OAUTH_EXAMPLES[status]]
        answers[status] = {
            "model": OAuthErrorAnswer,
            "headers": NOT_STORED | HEADERS.get(status, {}),
            "content": _examples(
                [{"error": code, "error_description": text} for code, text in errors]
            ),
        }
    return answers


def refusals(
    *statuses: int, texts: Mapping[int, str] | None = None
) -> dict[int | str, dict[str, Any]]:
    """The declaration of refusals; 422 is a list of problems, or one text.

    `texts` are what this route says, where that is not what most routes say.
    """
    said = EXAMPLES | {status: [text] for status, text in (texts or {}).items()}
    return {
        status: {
            "model": ValidationAnswer | ErrorAnswer if status == 422 else ErrorAnswer,
            "headers": HEADERS.get(status, {}),
            "content": _examples([{"detail": each} for each in said[status]]),
        }
        for status in statuses
    }


def _examples(bodies: Sequence[object]) -> dict[str, Any]:
    if len(bodies) == 1:
        return {"application/json": {"example": bodies[0]}}
    named = {f"example {number}": {"value": body} for number, body in enumerate(bodies, 1)}
    return {"application/json": {"examples": named}}


PROTECTED = refusals(400, 401, 403, 503)
"""What every protected route may answer beside its own."""
