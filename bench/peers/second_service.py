"""A service of its own that uses scopegate-client, and beside it the same route without it."""

from typing import Annotated

from fastapi import Depends, FastAPI, Security

from scopegate_client import Principal, Scopegate

BARE_PATH = "/bare"
EMPTY_PATH = "/empty"
ORDERS_PATH = "/orders"
ARCHIVE_PATH = "/archive"
ARCHIVE = "read:archive"
FRESH_PATH = "/fresh"


def create_app() -> FastAPI:
    """Return the service, which finds its Scopegate in the environment."""
    scopegate = Scopegate.from_env()
    app = FastAPI(lifespan=scopegate.lifespan)
    app.add_api_route(BARE_PATH, answer)
    app.add_api_route(EMPTY_PATH, answer, dependencies=[Depends(empty)])

    @app.get(ORDERS_PATH)
    async def orders(
        _: Annotated[Principal, Security(scopegate.principal, scopes=["read:orders"])],
    ) -> dict[str, str]:
        return await answer()

    @app.get(ARCHIVE_PATH)
    async def archive(
        _: Annotated[Principal, Security(scopegate.principal, scopes=[ARCHIVE])],
    ) -> dict[str, str]:
        return await answer()

    @app.get(FRESH_PATH)
    async def fresh() -> bool:
        return scopegate.state.fresh

    return app


async def empty() -> None:
    """Nothing: what FastAPI takes to solve a dependency."""


async def answer() -> dict[str, str]:
    """What all of the routes answer."""
    return {"order": "of somebody"}
