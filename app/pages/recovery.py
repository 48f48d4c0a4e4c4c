"""The pages for people who forgot their password, and those that links in mails lead to.

Opening such a link changes nothing, because programs that look for harm in mails open links too.
The button on the page uses it up.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from fastapi import Request
from starlette.responses import Response

from app.access import own_address, password_links
from app.access.letters import ask_by_address
from app.api.dependencies import ActorDep
from app.api.routing import Router
from app.api.security import OWN_PAGE
from app.db.work import Actor
from app.errors import DomainError
from app.identity.links import BadLink, Purpose, find_link
from app.identity.models import User
from app.pages.browser import Browser, form_of
from app.pages.outcomes import tell
from app.pages.password import NotTheSame
from app.pages.rendering import PageRoute, page
from app.tokens.authorization import single

router = Router(route_class=PageRoute, include_in_schema=False, dependencies=[OWN_PAGE])

FORGOT, VERIFY, UNDO = "forgot-password", "verify-email", "undo-email-change"
RESET, ACCEPT = "reset-password", "accept-invitation"
MAX_SHOWN = 254
"""Characters of an address that a form is filled in with."""


@router.get("/forgot-password")
async def forgot_page(request: Request) -> Response:
    """Ask where to send a link: to choose a password, or to confirm an address."""
    verification = request.query_params.get("for") == "verification"
    return _ask_address(await Browser.of(request), verification=verification)


@router.post("/forgot-password")
async def forgot(request: Request, actor: ActorDep) -> Response:
    """Send the link if there is such an account; say the same if there is none."""
    form, browser = await form_of(request), await Browser.of(request)
    email, verification = single(form, "email") or "", single(form, "for") == "verification"
    runtime, username = browser.runtime, single(form, "username") or ""
    try:
        browser.check_form(request, single(form, "token") or "", FORGOT)
        wish: Literal["verify", "reset"] = "verify" if verification else "reset"
        await ask_by_address(
            runtime.guard, runtime.letters, wish, email, username=username, actor=actor
        )
    except DomainError as error:
        shown = {"email": email[:MAX_SHOWN], "username": username[:MAX_SHOWN]}
        return _ask_address(browser, verification=verification, error=error, **shown)
    return tell(browser, "verification-asked" if verification else "reset-asked")


@router.get("/verify-email")
async def verify_page(request: Request) -> Response:
    """Ask for the press of the button that confirms the address."""
    return await _ask_to_press(request, VERIFY, "verify", "change")


@router.post("/verify-email")
async def verify(request: Request, actor: ActorDep) -> Response:
    """Confirm the address."""
    browser, token, _ = await _pressed(request, VERIFY)
    runtime = browser.runtime
    await own_address.confirm_address(runtime.database, runtime.letters, token=token, actor=actor)
    return tell(browser, "verified")


@router.get("/undo-email-change")
async def undo_page(request: Request) -> Response:
    """Ask for the press of the button that undoes a change of address."""
    return await _ask_to_press(request, UNDO, "undo")


@router.post("/undo-email-change")
async def undo(request: Request, actor: ActorDep) -> Response:
    """Undo a change of address."""
    browser, token, _ = await _pressed(request, UNDO)
    runtime = browser.runtime
    await own_address.undo_change_of_address(
        runtime.database, runtime.letters, token=token, actor=actor
    )
    return tell(browser, "undone")


@router.get("/reset-password")
async def reset_page(request: Request) -> Response:
    """Ask for a new password."""
    return await _ask_password(await Browser.of(request), RESET, _token(request))


@router.post("/reset-password")
async def reset(request: Request, actor: ActorDep) -> Response:
    """Set the new password."""
    return await _set_password(request, actor, RESET, password_links.reset_password)


@router.get("/accept-invitation")
async def accept_page(request: Request) -> Response:
    """Ask for the first password."""
    return await _ask_password(await Browser.of(request), ACCEPT, _token(request))


@router.post("/accept-invitation")
async def accept(request: Request, actor: ActorDep) -> Response:
    """Set the first password."""
    return await _set_password(request, actor, ACCEPT, password_links.accept_invitation)


async def _set_password(
    request: Request, actor: Actor, name: str, use: Callable[..., Awaitable[None]]
) -> Response:
    """Use the link up with the password in the form, and say so. Raises BadLink."""
    browser, token, form = await _pressed(request, name)
    try:
        password = _new_password(form)
        await use(browser.runtime.guard, token=token, password=password, actor=actor)
    except BadLink:
        raise
    except DomainError as error:
        return await _ask_password(browser, name, token, error)
    return tell(browser, "reset" if name == RESET else "accepted")


_PURPOSES: dict[str, tuple[Purpose, ...]] = {
    RESET: ("reset",),
    ACCEPT: password_links.INVITATIONS,
}


def _token(request: Request) -> str:
    return request.query_params.get("token", "")


async def _pressed(request: Request, name: str) -> tuple[Browser, str, dict[str, list[str]]]:
    """Return who pressed the button of this page, the link's token, and the whole form."""
    form, browser = await form_of(request), await Browser.of(request)
    link = single(form, "link") or ""
    browser.check_form(request, single(form, "token") or "", name, link)
    return browser, link, form


def _new_password(form: dict[str, list[str]]) -> str:
    password = single(form, "new-password") or ""
    if password != single(form, "new-password-again"):
        raise NotTheSame
    return password


async def _shown(browser: Browser, link: str, *purposes: Purpose) -> dict[str, Any]:
    """Return what a page shows of a link: whose it is, and about which address. Raises BadLink."""
    async with browser.runtime.reading() as db:
        found = await find_link(db, link, *purposes, now=browser.runtime.now())
        user = await db.get(User, found.user_id)
    if user is None:
        raise BadLink
    return {"username": user.username, "email": found.email}


async def _ask_to_press(request: Request, name: str, *purposes: Purpose) -> Response:
    browser, link = await Browser.of(request), _token(request)
    response = page(
        f"{name.replace('-', '_')}.html",
        **await _shown(browser, link, *purposes),
        link=link,
        token=browser.form_token(name, link),
    )
    return browser.keep(response)


async def _ask_password(
    browser: Browser, name: str, link: str, error: DomainError | None = None
) -> Response:
    response = page(
        "new_password.html",
        error.status if error else 200,
        headers=error.headers if error else None,
        **await _shown(browser, link, *_PURPOSES[name]),
        invited=name == ACCEPT,
        action=name,
        link=link,
        token=browser.form_token(name, link),
        error=str(error) if error else None,
    )
    return browser.keep(response)


def _ask_address(
    browser: Browser,
    *,
    verification: bool,
    email: str = "",
    username: str = "",
    error: DomainError | None = None,
) -> Response:
    response = page(
        "forgot_password.html",
        error.status if error else 200,
        headers=error.headers if error else None,
        verification=verification,
        email=email,
        username=username,
        token=browser.form_token(FORGOT),
        error=str(error) if error else None,
    )
    return browser.keep(response)
