"""The account page: who is signed in, where, their applications, and their access tokens."""

import uuid
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from fastapi import Request
from starlette.responses import Response

from app.access.consents import ApplicationNotFound, list_applications, withdraw_consent
from app.access.own_account import end_own_session
from app.api.dependencies import ActorDep
from app.api.routing import Router
from app.api.security import OWN_PAGE
from app.db.work import Actor, Work
from app.errors import NotFound
from app.identity.own_sessions import end_other_sessions, list_own_sessions, list_tokens
from app.identity.sessions import SessionNotFound
from app.pages.browser import Browser, ForeignForm, form_of
from app.pages.devices import device_of
from app.pages.rendering import PageRoute, page, see_other
from app.tokens.authorization import single

router = Router(route_class=PageRoute, include_in_schema=False, dependencies=[OWN_PAGE])

MOST_SHOWN = 100
"""Applications, sessions, and tokens. The API lists all, page by page."""
SIGN_OUT, WITHDRAW = "sign-out", "withdraw"
END_SESSION, END_OTHERS, DONE = "end-session", "end-other-sessions", "done"
EXPORT, REVOKE_TOKEN = "export", "revoke-token"
MESSAGES = {
    "email": "We have sent a link to your new address. It counts once you have used the link.",
    "password": "Your password is changed, and all your other sessions have ended. "
    "Access tokens go on.",
    "session": "The session has ended.",
    "others": "All your other sessions have ended. Access tokens have too.",
    "token": "The access token is revoked.",
    "application": "The application is removed, and its sessions have ended.",
}
"""What the page says was done, by the key in its address."""


@router.get("/account")
async def account(request: Request) -> Response:
    """Show who is signed in, where they are, whom they have let in, and their tokens."""
    browser = await Browser.of(request)
    if browser.login is None:
        return see_other("sign-in")
    user_id, current = browser.login.user_id, browser.login.session_id
    now = browser.runtime.now()
    async with browser.runtime.reading() as db:
        found = await list_applications(db, user_id, after=None, limit=MOST_SHOWN)
        sessions = await list_own_sessions(
            db, user_id, first=current, limit=MOST_SHOWN + 1, now=now
        )
        tokens = await list_tokens(db, user_id, limit=MOST_SHOWN, now=now)
    return page(
        "account.html",
        username=browser.login.username,
        email=browser.login.email,
        sends_mail=browser.runtime.mailer.is_on,
        email_verified=browser.login.email_verified,
        message=_message(request, browser),
        applications=[(each, browser.form_token(WITHDRAW, each.client_id)) for each in found],
        sessions=[
            (each, device_of(each.user_agent), browser.form_token(END_SESSION, str(each.id)))
            for each in sessions[:MOST_SHOWN]
        ],
        tokens=[(each, browser.form_token(REVOKE_TOKEN, str(each.id))) for each in tokens],
        current=current,
        more_sessions=len(sessions) > MOST_SHOWN,
        end_others=browser.form_token(END_OTHERS),
        sign_out=browser.form_token(SIGN_OUT),
        export=browser.form_token(EXPORT),
    )


@router.post("/withdraw")
async def withdraw(request: Request, actor: ActorDep) -> Response:
    """Let an application do nothing more for the person. Its sessions of theirs end at once."""
    form, browser = await form_of(request), await Browser.of(request)
    client_id = single(form, "client_id") or ""
    browser.check_form(request, single(form, "token") or "", WITHDRAW, client_id)
    if browser.login is not None:
        async with browser.runtime.work(actor.signed_in_as(browser.login.user_id)) as work:
            try:
                await withdraw_consent(work, client_id)
            except ApplicationNotFound:
                return see_other("account")
    return done(browser, "application")


@router.post("/end-session")
async def end_one_session(request: Request, actor: ActorDep) -> Response:
    """End one of the person's own sessions; repeating it changes nothing."""
    return await end_one(
        request, actor, END_SESSION, end_own_session, field="session", told="session"
    )


async def end_one(
    request: Request,
    actor: Actor,
    purpose: str,
    end: Callable[[Work[Actor], uuid.UUID], Awaitable[None]],
    *,
    field: str,
    told: str,
) -> Response:
    """End the session that a form's field names, as the person's own, and tell that it was done."""
    form, browser = await form_of(request), await Browser.of(request)
    if browser.login is None:
        return see_other("sign-in")
    session_id = single(form, field) or ""
    browser.check_form(request, single(form, "token") or "", purpose, session_id)
    async with browser.runtime.work(actor.signed_in_as(browser.login.user_id)) as work:
        try:
            # The page's own id, as its token says.
            await end(work, uuid.UUID(session_id))
        except NotFound:
            return see_other("account")
    if session_id == str(browser.login.session_id):
        return browser.forget(see_other("sign-in"))
    return done(browser, told)


@router.post("/end-other-sessions")
async def end_all_others(request: Request, actor: ActorDep) -> Response:
    """End all of the person's sessions but that of this browser."""
    form, browser = await form_of(request), await Browser.of(request)
    if browser.login is None:
        return see_other("sign-in")
    browser.check_form(request, single(form, "token") or "", END_OTHERS)
    async with browser.runtime.work(actor.signed_in_as(browser.login.user_id)) as work:
        await end_other_sessions(work, browser.login.session_id)
    return done(browser, "others")


@router.post("/sign-out")
async def sign_out(request: Request, actor: ActorDep) -> Response:
    """End the session in this browser. Codes that it was given are void."""
    form, browser = await form_of(request), await Browser.of(request)
    browser.check_form(request, single(form, "token") or "", SIGN_OUT)
    await end_login(browser, actor)
    return browser.forget(see_other("sign-in"))


async def end_login(browser: Browser, actor: Actor) -> None:
    """End the session of the browser's cookie, if it has one."""
    if browser.login is None:
        return
    async with browser.runtime.work(actor.signed_in_as(browser.login.user_id)) as work:
        try:
            await end_own_session(work, browser.login.session_id)
        except SessionNotFound:
            return


def done(browser: Browser, what: str) -> Response:
    """Return the redirect to the account page, which then says what was done."""
    # With a token: no link of another site makes the page say what is not true.
    query = {"done": what, "token": browser.form_token(DONE, what)}
    return see_other(f"account?{urlencode(query)}")


def _message(request: Request, browser: Browser) -> str | None:
    what = request.query_params.get("done", "")
    try:
        browser.check_form(request, request.query_params.get("token", ""), DONE, what)
    except ForeignForm:
        return None
    return MESSAGES.get(what)
