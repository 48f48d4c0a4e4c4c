"""The page on which people change their password."""

from dataclasses import replace

from fastapi import Request
from starlette.responses import Response

from app.api.dependencies import ActorDep
from app.api.routing import Router
from app.api.security import OWN_PAGE
from app.db.work import Actor
from app.errors import DomainError, InvalidToken, Refused
from app.identity.browser_sessions import BrowserLogin, replace_cookie
from app.identity.login import change_password
from app.pages.account import done
from app.pages.browser import Browser, form_of
from app.pages.rendering import PageRoute, page, see_other
from app.tokens.authorization import single
from app.tokens.browser import new_cookie

router = Router(route_class=PageRoute, include_in_schema=False, dependencies=[OWN_PAGE])

PAGE = "change-password"


class NotTheSame(Refused):
    """The new password was typed in two ways."""

    text = "The two new passwords are not the same: type both again."


@router.get("/change-password")
async def password_page(request: Request) -> Response:
    """Ask for the current password and a new one."""
    browser = await Browser.of(request)
    return see_other("sign-in") if browser.login is None else _ask(browser, browser.login)


@router.post("/change-password")
async def set_password(request: Request, actor: ActorDep) -> Response:
    """Change the password as `POST /users/me/password` does; this browser stays signed in."""
    form, browser = await form_of(request), await Browser.of(request)
    login = browser.login
    if login is None:
        return see_other("sign-in")
    acting = actor.signed_in_as(login.user_id)
    try:
        browser.check_form(request, single(form, "token") or "", PAGE)
        new = single(form, "new-password") or ""
        if new != single(form, "new-password-again"):
            raise NotTheSame
        await change_password(
            browser.runtime.guard,
            login.user_id,
            session_id=login.session_id,
            current=single(form, "password") or "",
            new=new,
            actor=acting,
        )
    except InvalidToken:
        return see_other("sign-in")
    except DomainError as error:
        return _ask(browser, login, error)
    return await _renew(browser, login, acting)


async def _renew(browser: Browser, login: BrowserLogin, actor: Actor) -> Response:
    """Return the redirect that says it, with a new cookie: a copy of the old one is void."""
    cookie = new_cookie()
    async with browser.runtime.work(actor) as work:
        renewed = await replace_cookie(work, login.session_id, old=browser.cookie, new=cookie)
    if not renewed:
        # By another tab meanwhile, whose answer brings the cookie that counts.
        return see_other("account")
    return browser.keep(done(replace(browser, cookie=cookie), "password"), cookie)


def _ask(browser: Browser, login: BrowserLogin, error: DomainError | None = None) -> Response:
    return page(
        "change_password.html",
        error.status if error else 200,
        headers=error.headers if error else None,
        username=login.username,
        token=browser.form_token(PAGE),
        error=str(error) if error else None,
    )
