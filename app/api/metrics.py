"""GET /metrics: for Prometheus. Off unless a token for it is set."""

from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.api.dependencies import RuntimeDep
from app.api.routing import Router
from app.api.security import CAN_SCRAPE
from app.ops.metrics import merge_metrics, render_metrics

router = Router(include_in_schema=False, dependencies=[CAN_SCRAPE])


@router.get("/metrics", summary="Get metrics")
async def metrics(request: Request, runtime: RuntimeDep) -> Response:
    """This process's metrics; with several workers, those of all, each with its number."""
    state = request.app.state
    number = state.worker.number if state.worker else None
    rendered = [render_metrics(runtime, state.requests, number)]
    if state.worker:
        rendered += await state.worker.ask_others()
    return Response(merge_metrics(rendered), media_type=CONTENT_TYPE_LATEST)
