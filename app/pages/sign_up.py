"""The page on which people make an account for themselves."""

from fastapi import Request
from starlette.responses import Response

from app.access.sign_ups import Wanted, sign_up
from app.api.accounts import SignUpIsOff
from app.api.dependencies import ActorDep
from app.api.routing import Router
from app.api.security import OWN_PAGE
from app.errors import DomainError
from app.pages.browser import Browser, form_of
from app.pages.outcomes import tell
from app.pages.password import NotTheSame
from app.pages.rendering import PageRoute, page
from app.tokens.authorization import single

router = Router(route_class=PageRoute, include_in_schema=False, dependencies=[OWN_PAGE])

PAGE = "sign-up"
MAX_SHOWN = 254
"""Characters of a name or address that a form is filled in with."""


@router.get("/sign-up")
async def sign_up_page(request: Request) -> Response:
    """Ask for a name, an address and a password."""
    browser = await Browser.of(request)
    _require_open(browser)
    return _ask(browser)


# Not /sign-up: that is the API's route, for JSON.
@router.post("/create-account")
async def create_account(request: Request, actor: ActorDep) -> Response:
    """Make the account as `POST /sign-up` does."""
    browser = await Browser.of(request)
    _require_open(browser)
    form = await form_of(request)
    runtime = browser.runtime
    username, email = single(form, "username") or "", single(form, "email") or ""
    password = single(form, "new-password") or ""
    try:
        browser.check_form(request, single(form, "token") or "", PAGE)
        if password != single(form, "new-password-again"):
            raise NotTheSame
        await sign_up(
            runtime.guard,
            runtime.letters,
            Wanted(username, email, password),
            scopes=runtime.settings.sign_up_scopes,
            actor=actor,
        )
    except DomainError as error:
        return _ask(browser, username=username, email=email, error=error)
    return tell(browser, "signed-up")


def _require_open(browser: Browser) -> None:
    if browser.runtime.settings.sign_up != "open":
        raise SignUpIsOff


def _ask(
    browser: Browser, *, username: str = "", email: str = "", error: DomainError | None = None
) -> Response:
    response = page(
        "sign_up.html",
        error.status if error else 200,
        headers=error.headers if error else None,
        token=browser.form_token(PAGE),
        username=username[:MAX_SHOWN],
        email=email[:MAX_SHOWN],
        error=str(error) if error else None,
    )
    return browser.keep(response)
