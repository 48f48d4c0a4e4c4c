"""/docs: Swagger UI, from files that this service serves itself. No other host is involved."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.responses import FileResponse

from app.api.routing import Router
from app.api.security import PUBLIC

FILES = Path(__file__).parents[1] / "docs"
ASSETS = "/docs/assets"
UNSCOPED = frozenset({"/openapi.json", ASSETS})
"""The paths that are no API routes, and public."""

POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "connect-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self'"
)
"""The page may call only this service, and run only its own files."""

router = Router(include_in_schema=False, dependencies=[PUBLIC])


def add_docs(app: FastAPI) -> None:
    """Serve the page and its files: ours, and Swagger UI's own."""
    app.router.routes.extend(router.routes)
    files = StaticFiles(directory=FILES / "assets", packages=[("fastapi_swagger", "resources")])
    app.mount(ASSETS, files)


@router.get("/docs")
async def docs() -> FileResponse:
    """The interactive documentation. Its Authorize button is a real sign-in."""
    return FileResponse(FILES / "docs.html", headers={"Content-Security-Policy": POLICY})


@router.get("/docs/signed-in")
async def signed_in() -> FileResponse:
    """Return the page that hands the code of a sign-in to /docs, whose window opened it."""
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
    return FileResponse(FILES / "signed_in.html", headers=headers)
