"""/docs: Swagger UI, from files that this service serves itself. No other host is involved."""

import base64
import hashlib
import re

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.responses import HTMLResponse

from app.api.security import PUBLIC, Router

ASSETS = "/docs/assets"
UNSCOPED = frozenset({"/openapi.json", ASSETS})
"""The paths that are no API routes, and public."""

POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "connect-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'sha256-{digest}'"
)
"""The page may call only this service, and run only its own files and the one inline script."""

router = Router(include_in_schema=False, dependencies=[PUBLIC])


def add_docs(app: FastAPI) -> None:
    """Serve the page and its files."""
    app.router.routes.extend(router.routes)
    app.mount(ASSETS, StaticFiles(packages=[("fastapi_swagger", "resources")]))


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """The interactive documentation. Its Authorize button is a real login."""
    prefix = request.scope.get("root_path", "")
    page = get_swagger_ui_html(
        openapi_url=f"{prefix}/openapi.json",
        title="Scopegate",
        swagger_js_url=f"{prefix}{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{prefix}{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{prefix}{ASSETS}/favicon-32x32.png",
    )
    (script,) = re.findall(rb"<script>(.*?)</script>", bytes(page.body), re.S)
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    page.headers["Content-Security-Policy"] = POLICY.format(digest=digest)
    return page
