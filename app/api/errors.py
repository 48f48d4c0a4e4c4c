"""The HTTP form of errors: OAuth's bodies, the bearer challenges, and `{"detail": …}`.

No answer repeats what the caller sent.
"""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import RouteContext, iter_route_contexts
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.routing import Match

from app.api.routing import OAuthRoute
from app.db.engine import DATABASE_GONE, STATEMENT_LOST, sqlstate_of
from app.errors import DomainError, Unavailable

logger = logging.getLogger(__name__)

LIMIT_EXCEEDED = "54000"
PROBLEMS = {
    "json_invalid": "The body is not valid JSON.",
    "model_attributes_type": "Send a JSON object, as application/json.",
    # Of a text that has more validators, pydantic says that it has items.
    "too_long": "This is too long: the maximum length is {max_length}.",
    "too_short": "This is too short: the minimum length is {min_length}.",
}
"""Of pydantic's and FastAPI's types of problems, those whose own words say too little."""
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class DatabaseUnavailable(Unavailable):
    """The database can't be asked."""

    text = "The database does not answer: try again in a moment."


class NotificationQueueFull(Unavailable):
    """Postgres keeps no more notifications, so no change that notifies can be committed."""

    text = (
        "Postgres' queue of notifications is full: a session that listens, in a transaction "
        "that it does not end, holds it up. Until that session ends, nothing can be changed."
    )


def add_error_handlers(app: FastAPI) -> None:
    """Add a handler for every kind of error that a route can raise."""
    app.add_exception_handler(DomainError, on_domain_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(ClientDisconnect, on_hang_up)
    app.add_exception_handler(DBAPIError, on_database_error)
    for lost in DATABASE_GONE:
        app.add_exception_handler(lost, on_database_gone)


async def on_domain_error(request: Request, error: Exception) -> JSONResponse:
    """Answer a domain error with its own status, code and headers."""
    assert isinstance(error, DomainError)
    return _answer(request, error.status, code=error.code, text=str(error), headers=error.headers)


async def on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """Answer what the framework refuses: an unknown path, a wrong method, too large a body."""
    assert isinstance(error, HTTPException)
    if error.status_code == 400 and isinstance(error.__cause__, ValueError | RecursionError):
        return _broken_body(error.__cause__)
    return _answer(
        request,
        error.status_code,
        code="invalid_request",
        text=error.detail,
        headers={"Allow": _allowed(request)} if error.status_code == 405 else error.headers,
    )


async def on_hang_up(request: Request, _: Exception) -> JSONResponse:
    """The client disconnected while it sent its body: nothing failed, and it reads no answer."""
    return _answer(request, 400, text="The body has not come in whole.")


async def on_validation_error(_: Request, error: Exception) -> JSONResponse:
    """Where and why the input does not fit, without the input.

    FastAPI's own handler sends the input back, and fails on NaN and on broken characters.
    """
    assert isinstance(error, RequestValidationError)
    problems = [
        {"type": each["type"], "loc": each["loc"], "msg": _problem(each)} for each in error.errors()
    ]
    return JSONResponse({"detail": problems}, 422)


def _broken_body(why: Exception) -> JSONResponse:
    """Answer a body that could not be decoded as other bodies that are not JSON.

    FastAPI reports only the errors of JSON's grammar in this way.
    """
    match why:
        case UnicodeDecodeError():
            text = "The body is not valid JSON: it is not UTF-8."
        case RecursionError():
            text = "The body is JSON that is nested too deeply."
        case _:
            # Python parses no integer of more than 4,300 digits.
            text = "The body is JSON with a number that is too long."
    return JSONResponse({"detail": [{"type": "json_invalid", "loc": ["body"], "msg": text}]}, 422)


def _problem(found: dict[str, Any]) -> str:
    """Return what is wrong, in words that have nothing of the input.

    pydantic's are fixed, or made of what the model allows. Where a parser has found something,
    that stands behind a comma and can be a piece of the input.
    """
    context = found.get("ctx", {})
    if text := PROBLEMS.get(found["type"]):
        return text.format(**context)
    match context.get("error"):
        case None:
            return str(found["msg"])
        case Exception() as ours:
            return str(ours)
        case _:
            return str(found["msg"]).partition(",")[0]


async def on_database_error(request: Request, error: Exception) -> JSONResponse:
    """Answer 4xx if Postgres refuses the caller's data, and 503 if the database can't be used.

    The class of the SQLSTATE decides, because it is standard, not the driver's exceptions.
    """
    assert isinstance(error, DBAPIError)
    sqlstate = sqlstate_of(error)
    if sqlstate in STATEMENT_LOST:
        return await on_database_gone(request, error)
    match sqlstate[:2]:
        case "22":
            return _answer(request, 422, text="This value can't be stored.")
        case "23":
            return _answer(request, 409, text="This contradicts what is stored.")
        # No SQLSTATE: the connection broke. The rest: it was refused (08, 28, 3D), a migration has
        # changed what a statement was prepared for (0A), the server is a standby (25), another
        # transaction was first (40, 55), it is full (53, 54), ending (57) or broken (58, XX).
        case "" | "08" | "0A" | "28" | "3D" | "25" | "40" | "55" | "53" | "54" | "57" | "58" | "XX":
            return await on_database_gone(request, error)
    raise error


async def on_database_gone(request: Request, error: Exception) -> JSONResponse:
    """Answer 503 with Retry-After: without a database no request passes.

    The error is logged without its text, which can repeat what a client sent.
    """
    why = {"error": type(error).__name__, "sqlstate": sqlstate_of(error)}
    # This SQLSTATE stands for any limit. Only "NOTIFY" is the same in Postgres' translations.
    if sqlstate_of(error) == LIMIT_EXCEEDED and "NOTIFY" in str(error):
        full = NotificationQueueFull()
        logger.warning("%s", full, extra=why)
        return await on_domain_error(request, full)
    logger.warning("the database can't be asked", extra=why)
    return await on_domain_error(request, DatabaseUnavailable())


def _routes_of(request: Request) -> list[RouteContext]:
    """Return the routes of the request's path, whatever their methods are."""
    return [
        route
        for route in iter_route_contexts(request.app.routes)
        if route.matches(request.scope)[0] is not Match.NONE
    ]


def _allowed(request: Request) -> str:
    """Return every method of the path (RFC 9110 §15.5.6): the router names only one route's."""
    methods = {method for route in _routes_of(request) for method in route.methods or ()}
    if "GET" in methods:
        methods.add("HEAD")
    # A path without a route is one of the pages' files.
    return ", ".join(sorted(methods or {"GET", "HEAD"}))


def _is_oauth(request: Request) -> bool:
    route = request.scope.get("route")
    if route is not None:
        return isinstance(route, OAuthRoute)
    # It was refused before any route was looked for.
    return any(isinstance(each.original_route, OAuthRoute) for each in _routes_of(request))


def _answer(
    request: Request,
    status: int,
    *,
    text: str,
    code: str = "invalid_request",
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    if _is_oauth(request):
        body = {"error": code, "error_description": text}
        return JSONResponse(body, status, headers={**NO_STORE, **(headers or {})})
    return JSONResponse({"detail": text}, status, headers=dict(headers or {}))
