"""The same service without the package scopegate-client: trust.py has the two ways.

ISSUER=http://127.0.0.1:8000 uvicorn --factory examples.resource_server.by_hand:app_from_environment
"""

import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from fastapi import FastAPI, HTTPException, Security
from fastapi.security import OAuth2PasswordBearer, SecurityScopes

from examples.resource_server.trust import (
    Bearer,
    ByAsking,
    ByKeys,
    Trust,
    Unreachable,
    Untrusted,
)

SCOPES = {"read:orders": "See one's own orders"}


def bearer_of(trust: Trust) -> Callable[..., Coroutine[Any, Any, Bearer]]:
    """The dependency that finds whom a request is from; its tokens come from the issuer."""
    scheme = OAuth2PasswordBearer(tokenUrl=f"{trust.issuer}/token", scopes=SCOPES)

    async def current_bearer(
        required: SecurityScopes, token: Annotated[str, Security(scheme)]
    ) -> Bearer:
        """Whom the request is from, if the token holds all scopes that the route names."""
        try:
            bearer = await trust.bearer(token)
        except Untrusted:
            challenge = 'Bearer error="invalid_token"'
            raise HTTPException(401, "Not a good token.", {"WWW-Authenticate": challenge}) from None
        except Unreachable:
            raise HTTPException(503, "Nobody can be let in now.", {"Retry-After": "1"}) from None
        if not bearer.scopes.issuperset(required.scopes):
            challenge = f'Bearer error="insufficient_scope", scope="{required.scope_str}"'
            raise HTTPException(403, "The scope is missing.", {"WWW-Authenticate": challenge})
        return bearer

    return current_bearer


def create_app(trust: Trust, http: httpx.AsyncClient) -> FastAPI:
    """The service, which trusts tokens in this way, and closes the client at its end."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with http:
            yield

    app = FastAPI(title="Orders", lifespan=lifespan)
    current_bearer = bearer_of(trust)

    @app.get("/orders")
    async def orders(
        bearer: Annotated[Bearer, Security(current_bearer, scopes=["read:orders"])],
    ) -> list[str]:
        """One's own orders."""
        return [f"An order of {bearer.subject}"]

    return app


def app_from_environment() -> FastAPI:
    """By asking where CLIENT_ID and CLIENT_SECRET are set, else by keys."""
    http, issuer = httpx.AsyncClient(timeout=2.0), os.environ["ISSUER"]
    trust: Trust = ByKeys(http, issuer=issuer)
    if client_id := os.environ.get("CLIENT_ID"):
        client_secret = os.environ["CLIENT_SECRET"]
        trust = ByAsking(http, issuer=issuer, client_id=client_id, client_secret=client_secret)
    return create_app(trust, http)
