"""How pages are made: templates, headers, and errors as pages. No page needs a script."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from sqlalchemy.exc import DBAPIError
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from app.api.errors import on_database_error, on_database_gone
from app.api.routing import CallerFirstRoute, Handler
from app.db.engine import DATABASE_GONE
from app.errors import DomainError
from app.pages.look import Look

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'"
)
"""Nothing but our style sheet and icon: a page has no script."""


class PageRoute(CallerFirstRoute):
    """A route of a page, whose errors are pages too."""

    def get_route_handler(self) -> Handler:
        """Return what handles a request, and shows what goes wrong."""
        handle = super().get_route_handler()

        async def show_errors(request: Request) -> Response:
            try:
                return await handle(request)
            except DomainError as error:
                return error_page(error)
            except (DBAPIError, *DATABASE_GONE) as error:
                answer = on_database_error if isinstance(error, DBAPIError) else on_database_gone
                plain = await answer(request, error)
                text = "This can't be done just now: try again in a moment."
                return page("error.html", plain.status_code, text=text, headers=plain.headers)

        return show_errors


class Page(HTMLResponse):
    """A page. It is rendered as it is sent, with the look of the app that sends it."""

    def __init__(
        self, template: str, values: Mapping[str, Any], status: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(status_code=status, headers=headers)
        self._template, self._values = template, values

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Render the page, and send it."""
        look: Look = scope["app"].state.look
        self.body = self.render(look.render(self._template, **self._values))
        self.headers["content-length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


def page(
    template: str,
    status: int = 200,
    *,
    may_lead_to: str = "",
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Page:
    """Return a page.

    `may_lead_to`: where beside this service its form may be redirected, as a policy writes it:
    Chromium refuses to follow a redirect elsewhere.
    """
    kept = {name: value for name, value in (headers or {}).items() if name.lower() == "retry-after"}
    return Page(
        template,
        values,
        status,
        {
            **kept,
            "Content-Security-Policy": f"{POLICY} {may_lead_to}".rstrip(),
            # Applications open sign-in in a window of its own, and wait for its end.
            "Cross-Origin-Opener-Policy": "unsafe-none",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        },
    )


def error_page(error: DomainError) -> Page:
    """Return the page that tells a person of this error."""
    return page("error.html", error.status, text=str(error), headers=error.headers)


def see_other(location: str) -> Response:
    """Return a redirect that the browser follows by GET, so that no form is sent on (RFC 9700)."""
    return Response(status_code=303, headers={"Location": location, "Cache-Control": "no-store"})
