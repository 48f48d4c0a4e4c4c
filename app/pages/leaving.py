"""The pages on which people take their data with them, and delete their account."""

from fastapi import Request
from starlette.responses import Response

from app.access.authority import Caller
from app.access.erasure import erase_oneself
from app.access.own_account import begin_export
from app.api.dependencies import ActorDep
from app.api.me import export_answer
from app.api.routing import Router
from app.api.security import OWN_PAGE
from app.db.work import Actor
from app.errors import DomainError, InvalidToken
from app.identity.browser_sessions import BrowserLogin
from app.pages.account import EXPORT
from app.pages.browser import Browser, form_of
from app.pages.rendering import PageRoute, page, see_other
from app.tokens.authorization import single

router = Router(route_class=PageRoute, include_in_schema=False, dependencies=[OWN_PAGE])

PAGE = "delete-account"


@router.post("/export")
async def export(request: Request, actor: ActorDep) -> Response:
    """Send everything that is kept about the person, as `GET /users/me/export` does."""
    form, browser = await form_of(request), await Browser.of(request)
    if browser.login is None:
        return see_other("sign-in")
    browser.check_form(request, single(form, "token") or "", EXPORT)
    async with browser.runtime.work(_caller(actor, browser.login)) as work:
        try:
            await begin_export(work, session_id=browser.login.session_id)
        except InvalidToken:
            return see_other("sign-in")
    return export_answer(browser.runtime, browser.login.user_id)


@router.get("/delete-account")
async def deletion_page(request: Request) -> Response:
    """Say what deleting the account does, and ask for the password."""
    browser = await Browser.of(request)
    return see_other("sign-in") if browser.login is None else _ask(browser, browser.login)


@router.post("/delete-account")
async def delete_account(request: Request, actor: ActorDep) -> Response:
    """Delete the account as `DELETE /users/me` does, and say so."""
    form, browser = await form_of(request), await Browser.of(request)
    login = browser.login
    if login is None:
        return see_other("sign-in")
    try:
        browser.check_form(request, single(form, "token") or "", PAGE)
        await erase_oneself(
            browser.runtime.guard,
            _caller(actor, login),
            session_id=login.session_id,
            password=single(form, "password") or "",
        )
    except InvalidToken:
        return see_other("sign-in")
    except DomainError as error:
        return _ask(browser, login, error)
    return browser.forget(page("account_deleted.html"))


def _caller(actor: Actor, login: BrowserLogin) -> Caller:
    """Return the person themselves, by their own hand: no client acts on our pages."""
    return Caller(login.user_id, actor.origin)


def _ask(browser: Browser, login: BrowserLogin, error: DomainError | None = None) -> Response:
    return page(
        "delete_account.html",
        error.status if error else 200,
        headers=error.headers if error else None,
        username=login.username,
        token=browser.form_token(PAGE),
        error=str(error) if error else None,
    )
