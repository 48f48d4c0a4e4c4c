"""Introspection (RFC 7662): what Scopegate says of a token at this moment."""

import asyncio
import time
from dataclasses import dataclass

import httpx2

from scopegate_client.principals import Principal, Unavailable, parse

TIMEOUT = 2.0
"""Seconds to wait for an answer at most. It may be as old as that: so this is below the bound."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What Scopegate said. It was true at some moment after `asked`."""

    asked: float
    principal: Principal | None
    """None: the token is not active, no access token, or not meant for this service."""


async def introspect(
    http: httpx2.AsyncClient, token: str, *, issuer: str, audience: str, bound: float
) -> Answer:
    """Ask Scopegate about a token, as the service account of `http`. Raises Unavailable."""
    asked = time.monotonic()
    try:
        async with asyncio.timeout(min(TIMEOUT, bound / 2)):
            answer = await http.post("/introspect", data={"token": token})
        said = answer.raise_for_status().json()
        # A refresh token is active too.
        good = said["active"] is True and said["token_type"] == "bearer"
        good = good and (said["iss"], said["aud"]) == (issuer, audience)
        return Answer(asked, parse(said) if good else None)
    except (httpx2.HTTPError, TimeoutError, KeyError, TypeError, ValueError) as error:
        raise Unavailable(str(error) or "the answer took too long") from error
