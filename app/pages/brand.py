"""The operator's logo."""

from fastapi import Request
from starlette.responses import Response

from app.api.routing import Router
from app.api.security import PUBLIC
from app.errors import NotFound
from app.pages.look import Look

router = Router(include_in_schema=False, dependencies=[PUBLIC])

HEADERS = {
    # An SVG file may hold scripts, which run when it is opened by itself: not with these.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "public, max-age=86400",
}


class NoLogo(NotFound):
    """No logo is set."""

    text = "There is no logo: set SCOPEGATE_BRAND_LOGO to have one."


@router.get("/brand/logo")
async def logo(request: Request) -> Response:
    """Return the logo. Raises NoLogo."""
    look: Look = request.app.state.look
    if look.logo is None:
        raise NoLogo
    return Response(look.logo.content, media_type=look.logo.media_type, headers=HEADERS)
