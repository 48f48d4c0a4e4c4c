"""Health: whether the process runs, and whether it can serve."""

from typing import Literal

from fastapi import Request
from pydantic import BaseModel

from app.api.answers import refusals
from app.api.dependencies import RuntimeDep
from app.api.routing import Router
from app.api.security import PUBLIC
from app.errors import Unavailable

router = Router(prefix="/health", tags=["health"], dependencies=[PUBLIC])


class ShuttingDown(Unavailable):
    """The process still answers, but load balancers must stop sending requests."""

    text = "This process is shutting down."


class NoWrites(Unavailable):
    """The database answers, but commits nothing."""

    def __init__(self, why: object) -> None:
        super().__init__(f"The database takes no writes: {why}.")


class SchemaOutdated(Unavailable):
    """The database lacks what this code needs."""

    text = "The database is not migrated to this version: run scopegate migrate."


class ScopesMissing(Unavailable):
    """The database lacks scopes that this code's routes ask for."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(
            f"The database lacks this version's scopes {', '.join(names)}: run scopegate migrate."
        )


class Health(BaseModel):
    """How the service is."""

    status: str


class Readiness(Health):
    """Whether it can serve, and how it checks requests."""

    checks: Literal["cached", "database"]


@router.get("/live", summary="Check liveness")
async def live() -> Health:
    """The process runs. Asks nothing else: a restart would not bring a database back."""
    return Health(status="live")


@router.get("/ready", summary="Check readiness", responses=refusals(503))
async def ready(request: Request, runtime: RuntimeDep) -> Readiness:
    """The database takes writes and has all that this version needs; there is a key to sign with.

    503 as well from SIGTERM on, while requests are still answered.

    `checks` tells what a request is checked against: what is remembered under the eyes of the
    change feed (`cached`), or, while the feed is not to be trusted, the database each time.
    """
    if "draining" in request.scope["state"]:
        raise ShuttingDown
    if why := await runtime.takes_no_writes():
        raise NoWrites(why)
    if not await runtime.schema_is_current():
        raise SchemaOutdated
    if missing := await runtime.missing_scopes():
        raise ScopesMissing(missing)
    await runtime.keyring.refresh()
    runtime.keyring.signing(runtime.now())
    return Readiness(status="ready", checks="cached" if runtime.feed.fresh() else "database")
