"""The refusals, as OpenAPI declares them."""

from typing import Any

from pydantic import BaseModel


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
    """The declaration of an OAuth endpoint's refusals."""
    return {status: {"model": OAuthErrorAnswer} for status in statuses}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The declaration of refusals; 422 is a list of problems, or one text."""
    return {
        status: {"model": ValidationAnswer | ErrorAnswer if status == 422 else ErrorAnswer}
        for status in statuses
    }


PROTECTED = refusals(400, 401, 403, 503)
"""What every protected route may answer beside its own."""
