"""The sign-in page."""

from urllib.parse import urlsplit

from fastapi import Request
from starlette.responses import Response

from app.access.client_documents import is_document_url
from app.access.documented_clients import documented_client
from app.api.dependencies import ActorDep, watch_disconnect
from app.api.routing import Router
from app.api.security import OWN_PAGE
from app.db.work import Actor
from app.errors import DomainError, Unavailable
from app.identity.login import LoginRefused, authenticate
from app.identity.models import Registration
from app.identity.registrations import find_registration
from app.pages.account import end_login
from app.pages.browser import Browser, ForeignForm, form_of, query_of, spelled
from app.pages.rendering import PageRoute, page, see_other
from app.tokens.authorization import Reply, UnknownClient, reply_of, single
from app.tokens.browser import open_browser_session

router = Router(route_class=PageRoute, include_in_schema=False, dependencies=[OWN_PAGE])

PAGE = "sign-in"
MAX_SHOWN = 254
"""Characters of a name that a form is filled in with."""


@router.get("/sign-in")
async def sign_in_page(request: Request) -> Response:
    """Ask for name and password, for the authorization request in the query if there is one."""
    browser, parameters = await Browser.of(request), query_of(request)
    username = (single(parameters, "login_hint") or "")[:MAX_SHOWN]
    return await _ask(browser, parameters, username=username)


@router.post("/sign-in")
async def sign_in(request: Request, actor: ActorDep) -> Response:
    """Sign in, and go back to the authorization request."""
    parameters, form = query_of(request), await form_of(request)
    browser = await Browser.of(request)
    query = spelled(parameters)
    username, password = single(form, "username") or "", single(form, "password") or ""
    try:
        browser.check_form(request, single(form, "token") or "", PAGE, query)
        cookie = await _open(request, browser, actor, username=username, password=password)
    except (ForeignForm, LoginRefused, Unavailable) as error:
        if browser.is_new:
            # Perhaps another site's form, with which a browser sends no cookie. A new cookie would
            # replace the one that the browser has. By a GET it sends that.
            return see_other(f"sign-in?{query}" if query else "sign-in")
        return await _ask(browser, parameters, username=username[:MAX_SHOWN], error=error)
    # Of several values none is right: the request is refused there as it was here.
    prompt = " ".join(set((single(parameters, "prompt") or "").split()) - {"login"})
    # Done by this sign-in: to ask again would never end.
    parameters.pop("max_age", None)
    if len(parameters.get("prompt", ())) == 1:
        parameters["prompt"] = [prompt]
    where = f"authorize?{spelled(parameters)}" if parameters else "account"
    return browser.keep(see_other(where), cookie)


async def _open(
    request: Request, browser: Browser, actor: Actor, *, username: str, password: str
) -> str:
    """Return the cookie of a new session. Raises what `authenticate` raises."""
    runtime = browser.runtime
    async with (
        watch_disconnect(request) as gone,
        authenticate(
            runtime.guard, username=username, password=password, actor=actor, gone=gone
        ) as found,
        runtime.work(actor, at_once=True) as work,
    ):
        cookie = await open_browser_session(work, runtime.issuer, found)
    await end_login(browser, actor)
    return cookie


async def _ask(
    browser: Browser,
    parameters: dict[str, list[str]],
    *,
    username: str,
    error: DomainError | None = None,
) -> Response:
    """Return the sign-in page. Raises UnknownClient or WrongRedirect."""
    registration, leads_to = None, ""
    if parameters:
        registration, reply = await client_of(browser, parameters)
        leads_to = reply.redirect_uri.form_action
    query = spelled(parameters)
    response = page(
        "sign_in.html",
        403 if isinstance(error, LoginRefused) else error.status if error else 200,
        headers=error.headers if error else None,
        may_lead_to=leads_to,
        query=query,
        token=browser.form_token(PAGE, query),
        username=username,
        error=str(error) if error else None,
        client=registration.name if registration else None,
        may_reset=browser.runtime.mailer.is_on,
        may_sign_up=browser.runtime.settings.sign_up == "open",
        host=urlsplit(browser.runtime.settings.token_issuer).hostname,
    )
    return browser.keep(response)


async def client_of(
    browser: Browser, parameters: dict[str, list[str]]
) -> tuple[Registration, Reply]:
    """Return the client of an authorization request, and where its answers may go.

    Raises UnknownClient, ClientDocumentRefused, or WrongRedirect when an answer may go nowhere.
    """
    runtime, client_id = browser.runtime, single(parameters, "client_id")
    registration = await _find_client(browser, client_id) if client_id else None
    if registration is None:
        raise UnknownClient
    issuer = runtime.settings.token_issuer
    return registration, reply_of(registration, parameters, issuer=issuer)


async def _find_client(browser: Browser, client_id: str) -> Registration | None:
    """Return the client that is registered, or that describes itself, where that is allowed."""
    runtime = browser.runtime
    if client_id == runtime.settings.token_audience:
        # Its ID tokens would pass for access tokens where only the audience is looked at.
        return None
    if not is_document_url(client_id):
        async with runtime.reading() as db:
            return await find_registration(db, client_id)
    if runtime.client_documents is None:
        return None
    # Before a connection to the database is taken.
    document = await runtime.client_documents.get(
        client_id, address=browser.address, now=runtime.now()
    )
    async with runtime.reading() as db:
        return await documented_client(db, document)
