"""/docs: Swagger UI, from files that this service serves itself. No other host is asked."""

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.responses import HTMLResponse

from app.api.security import PUBLIC

ASSETS = "/docs/assets"
UNSCOPED = frozenset({"/openapi.json", ASSETS})
"""The paths that are no API routes, and public."""

router = APIRouter(include_in_schema=False, dependencies=[PUBLIC])


def add_docs(app: FastAPI) -> None:
    """Serve the page and its files."""
    app.include_router(router)
    app.mount(ASSETS, StaticFiles(packages=[("fastapi_swagger", "resources")]))


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """The interactive documentation. Its Authorize button is a real login."""
    prefix = request.scope.get("root_path", "")
    return get_swagger_ui_html(
        openapi_url=f"{prefix}/openapi.json",
        title="Scopegate",
        swagger_js_url=f"{prefix}{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{prefix}{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{prefix}{ASSETS}/favicon-32x32.png",
    )
