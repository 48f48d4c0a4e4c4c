"""Scopegate itself, and beside it the same routes without authorization: what they are held to.

One more differs from the bare one by nothing but the scope that it needs, and one by nothing but
the mark that every public route bears here: a dependency that does nothing.
"""

import uuid
from types import SimpleNamespace

from fastapi import FastAPI

from app import main
from app.api.dependencies import ReadDep
from app.api.items import ItemAnswer
from app.api.me import Me
from app.api.routing import Router, RoutesByPath
from app.api.security import PUBLIC, CanReadItems
from app.items.items import get_item
from app.ops.logging import configure_logging
from app.server.memory import share_one_heap
from app.settings import Settings
from bench.peers.account import CREATED_AT, SCOPES, USER_ID, USERNAME

BARE_PATH = "/bench/bare"
PUBLIC_PATH = "/bench/public"
BARE_ITEM_PATH = "/bench/owners/{owner_id}/items/{item_id}"
SCOPED_PATH = "/bench/scoped"


def create_app() -> FastAPI:
    """Scopegate with these routes before its own, made and found as its own are.

    But for the bare ones: the app would not start with routes that don't say who may call them.
    """
    settings = Settings()
    # As a serving process does: a line a request has its price.
    share_one_heap()
    configure_logging(settings)
    declared, undeclared = Router(), Router()
    declared.add_api_route(PUBLIC_PATH, bare, dependencies=[PUBLIC])
    declared.add_api_route(SCOPED_PATH, scoped)
    main.ROUTERS = (SimpleNamespace(router=declared), *main.ROUTERS)  # type: ignore[assignment]
    app = main.create_app(settings)
    undeclared.add_api_route(BARE_PATH, bare)
    undeclared.add_api_route(BARE_ITEM_PATH, bare_item)
    routes = undeclared.routes + app.router.routes[1:]
    app.router.routes[:] = [RoutesByPath(routes), *routes]
    return app


async def bare() -> Me:
    """What `GET /users/me` answers, without asking who wants it."""
    return Me(
        id=USER_ID,
        username=USERNAME,
        kind="person",
        created_at=CREATED_AT,
        email=None,
        email_verified=False,
        scopes=SCOPES,
        granted=SCOPES,
        granted_until={},
    )


async def bare_item(owner_id: uuid.UUID, item_id: uuid.UUID, db: ReadDep) -> ItemAnswer:
    """What `GET /items/{item_id}` does and answers, without asking who wants it."""
    return ItemAnswer.model_validate(await get_item(db, item_id, owner_id=owner_id))


async def scoped(_: CanReadItems) -> Me:
    """The same as the bare one, for whoever holds `read:items`."""
    return await bare()
