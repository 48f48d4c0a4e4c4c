"""Pages of other origins in a browser: what they may call (CORS)."""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.forward_auth import PATH as FORWARD_AUTH
from app.api.middleware import own_path

OPEN_ROUTES = {"/token", "/revoke", "/userinfo"}
OPEN_FOLDER = "/.well-known/"
"""What is under it is public, too."""
EXPOSED = ["WWW-Authenticate", "Retry-After", "X-Request-Id"]


class CrossOriginMiddleware:
    """Lets pages of any origin sign in and out, and pages of `origins` call the rest.

    Never with cookies, which only our own pages read: so a page has the tokens it was given, and no
    more. For the same reason it may send any header.
    """

    def __init__(self, app: ASGIApp, *, origins: tuple[str, ...]) -> None:
        self._app = app
        self._open = CORSMiddleware(
            app,
            allow_origins=["*"],
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
        )
        self._rest = app
        if origins:
            self._rest = CORSMiddleware(
                app,
                allow_origins=origins,
                allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
                allow_headers=["*"],
                expose_headers=EXPOSED,
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer a browser that asks what a page may do."""
        await self._for(scope)(scope, receive, send)

    def _for(self, scope: Scope) -> ASGIApp:
        if scope["type"] != "http":
            return self._app
        path = own_path(scope)
        if path in OPEN_ROUTES or path.startswith(OPEN_FOLDER):
            return self._open
        # A proxy asks there, no page. A browser's question that passes through the proxy must not
        # be answered with 200: that would let the request pass.
        return self._app if path == FORWARD_AUTH else self._rest
