"""/console: a web page for administrators; and /, which leads to it.

The page calls this API like any other client: it may do what its user's token may do. Its files
are static, except for one block of data in the page: what the scripts would otherwise repeat from
Python. The headers forbid other scripts and other hosts.
"""

from pathlib import Path
from typing import get_args

from fastapi import FastAPI, Request
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.types import Scope

from app.access.scopes import ADMIN
from app.api.dependencies import runtime_of
from app.api.routing import CallerFirstRoute, Router
from app.api.security import PUBLIC
from app.audit.actions import WARNINGS, Action
from app.identity.clients import CONSOLE_CLIENT
from app.identity.users import Kind

FILES = Path(__file__).parents[1] / "console"
ASSETS = "/console/assets"
UNSCOPED = frozenset({ASSETS})
"""The public paths that are not API routes."""
CONFIG_MARK = "<!-- config -->"
"""Where the page gets its configuration."""

POLICY = {
    **dict.fromkeys(("default-src", "base-uri", "form-action", "frame-ancestors"), "'none'"),
    **dict.fromkeys(("script-src", "style-src", "connect-src", "img-src"), "'self'"),
    # innerHTML and similar sinks throw: what the API returns can only become text.
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # The browser revalidates each file, so that a page never mixes modules of two releases.
    "Cache-Control": "no-cache",
}

ACTION_TEXTS: dict[Action, str] = {
    "login.succeeded": "Signed in",
    "login.failed": "Sign-in refused",
    "login.throttled": "Sign-in slowed down",
    "session.ended": "Session ended",
    "session.reuse_detected": "Refresh token used twice",
    "session.grace_used": "Refresh token used again from another network",
    "user.created": "User created",
    "user.changed": "User renamed",
    "user.disabled": "User disabled",
    "user.enabled": "User enabled",
    "password.changed": "Password changed",
    "grant.made": "Granted",
    "grant.revoked": "Revoked",
    "scope.registered": "Scope registered",
    "scope.removed": "Scope removed",
    "key.rotated": "Key rotated",
    "secret.made": "Secret created",
    "secret.revoked": "Secret revoked",
    "database.recovered": "Database recovered",
    "client.created": "Client registered",
    "client.changed": "Client changed",
    "client.deleted": "Client deleted",
    "consent.given": "Client allowed",
    "consent.withdrawn": "Client no longer allowed",
    "code.replayed": "Authorization code used twice",
    "account.signed_up": "Signed up",
    "email.verified": "E-mail address confirmed",
    "email.changed": "E-mail address changed",
    "password.reset_requested": "Password reset asked for",
    "password.reset": "Password reset",
    "invitation.made": "Invited",
    "invitation.accepted": "Invitation accepted",
    "account.erased": "Account deleted",
    "account.exported": "Own data exported",
    "audit.names_removed": "Names taken out of older entries",
    "token.made": "Access token created",
    "token.revoked": "Access token revoked",
}
KIND_TEXTS: dict[Kind, str] = {
    "person": "A person, with a password",
    "service": "A service, with a secret",
}


class ActionConfig(BaseModel):
    """An action of the audit log, and how the page shows it."""

    name: Action
    text: str
    warning: bool


class KindConfig(BaseModel):
    """A kind of user, and how the page offers it."""

    name: Kind
    text: str


class ConsoleConfig(BaseModel):
    """What the page's scripts need to know and the API does not return."""

    client_id: str = Field(description="What the page is called when it signs a user in.")
    issuer: str = Field(description="Where the service is, as its tokens say.")
    admin: str = Field(description="The scope that satisfies every requirement.")
    actions: list[ActionConfig]
    kinds: list[KindConfig]
    routes: dict[str, list[str]] = Field(
        description="The scopes that each route requires, by its method and path."
    )

    @classmethod
    def of(cls, app: FastAPI, *, issuer: str) -> "ConsoleConfig":
        """Return the configuration for the page that this app serves."""
        return cls(
            client_id=CONSOLE_CLIENT,
            issuer=issuer,
            admin=ADMIN,
            actions=ACTIONS,
            kinds=KINDS,
            routes=_required_scopes(app),
        )


# Built at import: a new action or kind without a text stops the process at start-up.
ACTIONS = [
    ActionConfig(name=name, text=ACTION_TEXTS[name], warning=name in WARNINGS)
    for name in get_args(Action)
]
KINDS = [KindConfig(name=name, text=KIND_TEXTS[name]) for name in get_args(Kind)]

router = Router(include_in_schema=False, dependencies=[PUBLIC])


class ConsoleFiles(StaticFiles):
    """The page's scripts, style sheet and icon."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the file, with the same headers as the page."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


def add_console(app: FastAPI) -> None:
    """Serve the page and its files."""
    app.router.routes.extend(router.routes)
    app.mount(ASSETS, ConsoleFiles(directory=FILES / "assets"))


@router.get("/")
async def start() -> FileResponse:
    """Return the page that leads to the console and to the documentation."""
    return FileResponse(FILES / "start.html", headers=HEADERS)


@router.get("/console")
async def console(request: Request) -> HTMLResponse:
    """Return the page, with its configuration in it. The page fetches everything else."""
    state = request.app.state
    # Made once: every client may ask for it.
    if not hasattr(state, "console"):
        state.console = _page(request.app, issuer=runtime_of(request).settings.token_issuer)
    return HTMLResponse(state.console, headers=HEADERS)


def _page(app: FastAPI, *, issuer: str) -> str:
    # Without "<" no text can end the block. In JSON it only occurs inside strings.
    config = ConsoleConfig.of(app, issuer=issuer).model_dump_json().replace("<", r"\u003c")
    return (FILES / "index.html").read_text("utf-8").replace(CONFIG_MARK, config)


def _required_scopes(app: FastAPI) -> dict[str, list[str]]:
    """Return the scopes of all routes that need a principal, by "METHOD /path"."""
    return {
        f"{method} {route.path_format}": list(route.required)
        for route in app.routes
        if isinstance(route, CallerFirstRoute) and route.required is not None
        if route.include_in_schema
        for method in sorted(route.methods or ())
    }
