"""A service with a resource of its own, for tokens that Scopegate issues.

SCOPEGATE_ISSUER=http://127.0.0.1:8000 SCOPEGATE_CLIENT_ID=orders SCOPEGATE_CLIENT_SECRET=… \
  uvicorn --factory examples.resource_server.app:app_from_environment
"""

from typing import Annotated

from fastapi import FastAPI, Security
from pydantic import BaseModel

from scopegate_client import Principal, Scopegate


class Order(BaseModel):
    """What a user has ordered."""

    item: str


def create_app(scopegate: Scopegate) -> FastAPI:
    """Return the service, which lets in the tokens that Scopegate's stream speaks for."""
    app = FastAPI(title="Orders", lifespan=scopegate.lifespan)
    reader = Security(scopegate.principal, scopes=["read:orders"])
    writer = Security(scopegate.principal, scopes=["read:orders", "write:orders"])
    of_subject: dict[str, list[Order]] = {}

    @app.get("/orders")
    async def orders(principal: Annotated[Principal, reader]) -> list[Order]:
        """Return the caller's own orders."""
        return of_subject.get(principal.subject, [])

    @app.post("/orders", status_code=201)
    async def order(order: Order, principal: Annotated[Principal, writer]) -> Order:
        """Order something."""
        of_subject.setdefault(principal.subject, []).append(order)
        return order

    return app


def app_from_environment() -> FastAPI:
    """Return the service for the issuer that the environment names."""
    return create_app(Scopegate.from_env())
