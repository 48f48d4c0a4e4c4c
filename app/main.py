"""The web app: the FastAPI application."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from app.api import (
    accounts,
    audit,
    clients,
    console,
    discovery,
    docs,
    events,
    forward_auth,
    grants,
    health,
    items,
    me,
    metrics,
    revocation,
    scopes,
    token,
    tokens,
    user_logins,
    userinfo,
    users,
)
from app.api.cross_origin import CrossOriginMiddleware
from app.api.default_deny import refuse_undeclared_routes
from app.api.errors import add_error_handlers
from app.api.middleware import (
    UNLOGGED,
    RequestContextMiddleware,
    RequestLimitsMiddleware,
    TrustedHosts,
    own_path,
)
from app.api.routing import CallerFirstRoute, RoutesByPath
from app.api.security import bearer
from app.mail.templates import MailTemplates
from app.ops.background import background_work
from app.ops.metrics import Requests, render_metrics
from app.ops.tracing import configured_tracing
from app.pages import (
    access_tokens,
    account,
    address,
    authorize,
    brand,
    leaving,
    logout,
    outcomes,
    password,
    recovery,
    sign_in,
    sign_up,
)
from app.pages.look import Look
from app.runtime import Runtime
from app.server.memory import trim_heap
from app.server.workers import Worker
from app.settings import Settings

if TYPE_CHECKING:
    from app.ops.spans import Tracing

ROUTERS = (
    me,
    items,
    token,
    revocation,
    forward_auth,
    tokens,
    users,
    user_logins,
    grants,
    scopes,
    clients,
    audit,
    events,
    discovery,
    accounts,
    health,
    metrics,
    authorize,
    sign_in,
    account,
    access_tokens,
    userinfo,
    logout,
    password,
    address,
    sign_up,
    recovery,
    outcomes,
    leaving,
    brand,
)
"""In the order in which they are looked through: what is asked most comes first.

`me` before `users` in any case: a path is answered by the first that fits.
"""


TAGS = [
    {"name": "tokens", "description": "Get tokens, end their sessions, ask about them."},
    {"name": "me", "description": "The user behind the token: scopes, password, sessions, tokens."},
    {"name": "accounts", "description": "Sign up, confirm an address, forget a password."},
    {"name": "users", "description": "Administer people and service accounts."},
    {"name": "grants", "description": "Let users hold scopes, and take scopes back."},
    {"name": "scopes", "description": "What can be granted: scopes of this service and of others."},
    {"name": "clients", "description": "Applications that sign people in."},
    {"name": "audit", "description": "Who did what to whom."},
    {"name": "events", "description": "For services that follow what changes."},
    {"name": "items", "description": "The sample resource, protected by scopes."},
    {"name": "identity", "description": "OpenID Connect: who has signed in."},
    {"name": "gateways", "description": "For proxies that ask before they pass a request on."},
    {"name": "discovery", "description": "What clients and other services need to know."},
    {"name": "health", "description": "For probes: does it run, and can it serve?"},
]
"""In the order in which /docs shows them."""


class Scopegate(FastAPI):
    """A FastAPI application whose OpenAPI document tells of the grants that are on."""

    has_password_grant = True

    def openapi(self) -> dict[str, Any]:
        """Return the document."""
        document = super().openapi()
        if not self.has_password_grant:
            scheme = document["components"]["securitySchemes"][bearer.scheme_name]
            scheme["flows"].pop("password", None)
        return document


def create_app(settings: Settings | None = None, worker: Worker | None = None) -> FastAPI:
    """The application, of one process or of one of several workers.

    Raises ConfigurationError when a route does not say who may call it, when traces are asked for
    that can't be made, or when a logo or template of the operator's can't be used.
    """
    settings = settings or Settings()
    requests = Requests()
    tracing = configured_tracing()

    app = Scopegate(
        title="Scopegate",
        version=version("scopegate"),
        description="Users, scopes and tokens. To try the routes: Authorize, then Try it out.",
        openapi_tags=TAGS,
        lifespan=partial(_running, settings, tracing),
        docs_url=None,
        redoc_url=None,
        telemetry=_telemetry(tracing),
        # A redirect's Location would be built from the Host header.
        redirect_slashes=False,
        # Below a path, that of the issuer is the one which clients see.
        servers=[{"url": path}] if (path := discovery.path_of(settings.token_issuer)) else None,
    )
    app.has_password_grant = settings.password_grant
    app.state.requests, app.state.worker = requests, worker
    app.state.look = Look.of(settings)
    MailTemplates.of(settings)  # Only to have one that is wrong stop the start.
    app.router.route_class = CallerFirstRoute
    app.add_middleware(RequestLimitsMiddleware, max_bytes=settings.max_body_bytes)
    if settings.trusted_hosts:
        app.add_middleware(TrustedHosts, allowed_hosts=settings.trusted_hosts, www_redirect=False)
    add_error_handlers(app)
    for module in ROUTERS:
        # Not included, but added: FastAPI looks through an included router's routes twice.
        app.router.routes.extend(module.router.routes)
    docs.add_docs(app)
    console.add_console(app)
    refuse_undeclared_routes(app, unscoped=docs.UNSCOPED | console.UNSCOPED)
    if tracing is None:  # A span has the name of the route that FastAPI's own router chooses.
        app.router.routes.insert(0, RoutesByPath(app.router.routes))
    # Around Starlette's own answer to a crash too, which no middleware sees that the app is given.
    stack = CrossOriginMiddleware(app.build_middleware_stack(), origins=settings.cors_origins)
    app.middleware_stack = RequestContextMiddleware(stack, settings, requests, tracing)
    return app


@asynccontextmanager
async def _running(
    settings: Settings, tracing: "Tracing | None", app: FastAPI
) -> AsyncIterator[None]:
    """Hold what the app needs while it runs."""
    requests, worker = app.state.requests, app.state.worker
    async with AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(Runtime.open(settings))
        await stack.enter_async_context(background_work(runtime, trim_heap))
        if worker:
            render = partial(render_metrics, runtime, requests, worker.number)
            await stack.enter_async_context(worker.telling(render))
        if tracing:
            await stack.enter_async_context(tracing.exporting(runtime.engine.sync_engine))
        await runtime.adopt_signing_algorithm()
        app.state.runtime = runtime
        yield


def _telemetry(tracing: "Tracing | None") -> TelemetryConfig:
    """Where traces are asked for, FastAPI's own span a request; probes and scrapes excepted."""
    return TelemetryConfig(
        tracing=tracing is not None,
        tracer_provider=tracing.provider if tracing else None,
        exclude=lambda scope: own_path(scope) in UNLOGGED,
        operation_spans=False,
        # These can carry request bodies, and here those hold passwords.
        metrics=False,
        logs=False,
        # It would send spans beside ours, with all that is in them.
        auto_configure=False,
    )
