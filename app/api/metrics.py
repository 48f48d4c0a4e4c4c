"""GET /metrics: for Prometheus. Off unless a token for it is set."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.api.dependencies import RuntimeDep
from app.api.security import CAN_SCRAPE
from app.ops.metrics import render_metrics

router = APIRouter(include_in_schema=False, dependencies=[CAN_SCRAPE])


@router.get("/metrics")
async def metrics(runtime: RuntimeDep) -> Response:
    """This process's metrics; with several workers, those of whichever answers."""
    return Response(render_metrics(runtime), media_type=CONTENT_TYPE_LATEST)
