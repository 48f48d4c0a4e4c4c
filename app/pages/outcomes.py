"""What a page did, told on a page of its own, so that a reload sends no form again."""

from dataclasses import replace
from typing import Literal, NamedTuple
from urllib.parse import urlencode

from fastapi import Request
from starlette.responses import Response

from app.api.routing import Router
from app.api.security import OWN_PAGE
from app.pages.browser import Browser, ForeignForm
from app.pages.rendering import PageRoute, page, see_other

router = Router(route_class=PageRoute, include_in_schema=False, dependencies=[OWN_PAGE])

PAGE = "outcome"
What = Literal[
    "signed-up", "verified", "reset-asked", "reset", "accepted", "undone", "verification-asked"
]


class Outcome(NamedTuple):
    """What was done, and where to go on."""

    title: str
    text: str
    link: str
    link_text: str


SIGN_IN = ("sign-in", "Sign in")
OUTCOMES: dict[What, Outcome] = {
    "signed-up": Outcome(
        "Look at your mail",
        "We have sent you a link. Your account works once you have used it. No mail? Look where "
        "unwanted mail is kept, or ask for another link.",
        "forgot-password?for=verification",
        "Send another link",
    ),
    "verified": Outcome(
        "Your address is confirmed", "You can sign in with this address now.", *SIGN_IN
    ),
    "reset-asked": Outcome(
        "Look at your mail",
        "If an account has this address, we have sent it a link. The link works for one hour.",
        *SIGN_IN,
    ),
    "verification-asked": Outcome(
        "Look at your mail",
        "If an account waits for this address, we have sent it a link. The link works for one "
        "hour.",
        *SIGN_IN,
    ),
    "reset": Outcome(
        "Your password is changed",
        "You are signed out everywhere. Sign in with the new password.",
        *SIGN_IN,
    ),
    "accepted": Outcome("Your password is set", "You can sign in now.", *SIGN_IN),
    "undone": Outcome(
        "Your old address is restored",
        "You are signed out everywhere. If another person may know your password, choose a new "
        "one now.",
        "forgot-password",
        "Choose a new password",
    ),
}


def tell(browser: Browser, what: What) -> Response:
    """Return the redirect to the page that says what was done."""
    # With a token: no link of another site makes the page say what is not true.
    query = {"what": what, "token": _stranger(browser).form_token(PAGE, what)}
    return browser.keep(see_other(f"done?{urlencode(query)}"))


def _stranger(browser: Browser) -> Browser:
    """Return the same browser without its person: what was done may have signed them out."""
    return replace(browser, login=None)


@router.get("/done")
async def done(request: Request) -> Response:
    """Say what was done."""
    browser = _stranger(await Browser.of(request))
    what = request.query_params.get("what", "")
    try:
        browser.check_form(request, request.query_params.get("token", ""), PAGE, what)
    except ForeignForm:
        return see_other("sign-in")
    found = {str(name): outcome for name, outcome in OUTCOMES.items()}.get(what)
    return page("done.html", **found._asdict()) if found else see_other("sign-in")
