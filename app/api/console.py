"""/console: the administration for people who would rather look than type.

A page that calls this API like any other client: it may do what its user's token may do. The files
are static, and the headers let the page run nothing else and ask nobody else.
"""

from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.responses import FileResponse, Response
from starlette.types import Scope

from app.api.security import PUBLIC, Router

FILES = Path(__file__).parents[1] / "console"
ASSETS = "/console/assets"
UNSCOPED = frozenset({ASSETS})
"""The paths that are no API routes, and public."""

POLICY = {
    **dict.fromkeys(("default-src", "base-uri", "form-action", "frame-ancestors"), "'none'"),
    **dict.fromkeys(("script-src", "style-src", "connect-src", "img-src"), "'self'"),
    # innerHTML and its like throw: what the API says can only ever become text.
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Asked again each time, mostly for a 304: the modules of two releases never meet.
    "Cache-Control": "no-cache",
}

router = Router(include_in_schema=False, dependencies=[PUBLIC])


class ConsoleFiles(StaticFiles):
    """The page's script, style and icon."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, with the headers that the page has."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


def add_console(app: FastAPI) -> None:
    """Serve the page and its files."""
    app.router.routes.extend(router.routes)
    app.mount(ASSETS, ConsoleFiles(directory=FILES / "assets"))


@router.get("/console")
async def console() -> FileResponse:
    """The page. All else it fetches itself."""
    return FileResponse(FILES / "index.html", headers=HEADERS)
