"""The page on which people change their e-mail address."""

from fastapi import Request
from starlette.responses import Response

from app.access.own_address import ask_to_change_address
from app.api.dependencies import ActorDep
from app.api.routing import Router
from app.api.security import OWN_PAGE
from app.errors import DomainError, InvalidToken
from app.identity.browser_sessions import BrowserLogin
from app.pages.account import done
from app.pages.browser import Browser, form_of
from app.pages.rendering import PageRoute, page, see_other
from app.tokens.authorization import single

router = Router(route_class=PageRoute, include_in_schema=False, dependencies=[OWN_PAGE])

PAGE = "change-email"
MAX_SHOWN = 254
"""Characters of an address that a form is filled in with."""


@router.get("/change-email")
async def address_page(request: Request) -> Response:
    """Ask for the current password and a new address."""
    browser = await Browser.of(request)
    return see_other("sign-in") if browser.login is None else _ask(browser, browser.login)


@router.post("/change-email")
async def change_address(request: Request, actor: ActorDep) -> Response:
    """Send a link to the new address, as `POST /users/me/email` does."""
    form, browser = await form_of(request), await Browser.of(request)
    login, email = browser.login, single(form, "email") or ""
    if login is None:
        return see_other("sign-in")
    runtime = browser.runtime
    try:
        browser.check_form(request, single(form, "token") or "", PAGE)
        await ask_to_change_address(
            runtime.guard,
            runtime.letters,
            login,
            email=email,
            password=single(form, "password") or "",
            actor=actor.signed_in_as(login.user_id),
        )
    except InvalidToken:
        return see_other("sign-in")
    except DomainError as error:
        return _ask(browser, login, email=email, error=error)
    return done(browser, "email")


def _ask(
    browser: Browser, login: BrowserLogin, *, email: str = "", error: DomainError | None = None
) -> Response:
    return page(
        "change_email.html",
        error.status if error else 200,
        headers=error.headers if error else None,
        username=login.username,
        email=email[:MAX_SHOWN],
        token=browser.form_token(PAGE),
        error=str(error) if error else None,
    )
