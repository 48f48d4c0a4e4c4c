"""/authorize and the consent page: from a client's request to a code (RFC 6749 §4.1)."""

from dataclasses import dataclass

from fastapi import Request
from starlette.responses import Response

from app.access.client_documents import is_document_url
from app.access.consents import covers, find_consent, give_consent, imply_consent
from app.access.documented_clients import keep_documented
from app.access.holdings import granted_until
from app.access.scopes import IDENTITY, OPENID, registered_scopes
from app.api.dependencies import ActorDep
from app.api.routing import Router
from app.api.security import OWN_PAGE
from app.db.work import Actor, Work
from app.identity.browser_sessions import BrowserLogin
from app.identity.models import Consent, Registration
from app.pages.browser import Browser, form_of, known, query_of, spelled
from app.pages.rendering import PageRoute, page, see_other
from app.pages.sign_in import client_of
from app.tokens.authorization import (
    AuthorizationError,
    AuthorizationRequest,
    Reply,
    parse_request,
    single,
)
from app.tokens.codes import PageUsed, issue_code

router = Router(route_class=PageRoute, include_in_schema=False, dependencies=[OWN_PAGE])

PAGE = "consent"
DENIED = "The person has denied the request."


@dataclass(frozen=True, slots=True)
class Asked:
    """An authorization request, and the person in whose browser it came."""

    browser: Browser
    login: BrowserLogin
    request: AuthorizationRequest
    scopes: frozenset[str]
    """Asked for ∩ the client's ceiling ∩ granted now."""
    query: str


@router.post("/authorize")
async def authorize_by_form(request: Request) -> Response:
    """Do as a GET does with the same parameters."""
    # A browser sends no cookie with another site's form. It does with the GET that follows.
    return see_other(f"authorize?{spelled(known(await form_of(request)))}")


@router.get("/authorize")
async def authorize(request: Request, actor: ActorDep) -> Response:
    """Give the client a code, once the person is signed in and has agreed."""
    browser, parameters = await Browser.of(request), query_of(request)
    registration, reply = await client_of(browser, parameters)
    try:
        wanted = parse_request(registration, reply, parameters)
        login = _signed_in(browser, wanted)
        if login is None:
            return browser.keep(see_other(f"sign-in?{spelled(parameters)}"))
        asked = await _ask_for(browser, login, wanted, spelled(parameters))
        return await _answer(asked, actor)
    except AuthorizationError as error:
        if not await _may_be_told(browser, registration):
            raise
        return _tell(browser, reply, error)


@router.post("/consent")
async def consent(request: Request, actor: ActorDep) -> Response:
    """Do what the person has decided on the consent page."""
    parameters, form = query_of(request), await form_of(request)
    browser, query = await Browser.of(request), spelled(parameters)
    registration, reply = await client_of(browser, parameters)
    shown = single(form, "shown") or ""
    bound_to = _bound_to(registration, reply, query, shown)
    ticket = browser.check_form(request, single(form, "token") or "", *bound_to)
    if browser.login is None:
        return see_other(f"authorize?{query}")
    try:
        wanted = parse_request(registration, reply, parameters)
        if _signed_in(browser, wanted) is None:
            return see_other(f"sign-in?{query}")
        asked = await _ask_for(browser, browser.login, wanted, query)
        # What the person has lost since the page was made can't be given.
        offered = asked.scopes & set(shown.split())
        allowed = _allowed(form, offered)
        async with browser.runtime.work(actor.signed_in_as(asked.login.user_id)) as work:
            if is_document_url(registration.client_id):
                registration = await keep_documented(work, registration)
            host = reply.redirect_uri.host
            given = await give_consent(
                work, registration, shown=offered, allowed=allowed, host=host
            )
            return await _give_code(work, asked, given, scopes=allowed, ticket=ticket)
    except PageUsed:
        return see_other(f"authorize?{query}")
    except AuthorizationError as error:
        return _tell(browser, reply, error)


async def _may_be_told(browser: Browser, registration: Registration) -> bool:
    """Whether the client may learn of an error although the person has pressed no button.

    A stranger's document must not learn who visits it, or make this service's address lead there.
    """
    if not is_document_url(registration.client_id):
        return True
    if browser.login is None:
        return False
    async with browser.runtime.reading() as db:
        return await find_consent(db, browser.login.user_id, registration.id) is not None


def _bound_to(
    registration: Registration, reply: Reply, query: str, shown: str
) -> tuple[str, str, str, str, str]:
    """Return what a consent page is bound to, as the person saw it: also where answers go."""
    # An id that was registered may be deleted, and registered for another application.
    client_id = registration.client_id
    client = client_id if is_document_url(client_id) else str(registration.id)
    return PAGE, client, reply.redirect_uri.uri, query, shown


def _signed_in(browser: Browser, wanted: AuthorizationRequest) -> BrowserLogin | None:
    """Return who is signed in; None if they have to sign in, perhaps again.

    Raises AuthorizationError when they must not be asked to.
    """
    login = browser.login
    now = browser.runtime.now()
    if login is not None and not wanted.needs_sign_in(login.signed_in_at, now=now):
        return login
    if "none" in wanted.prompt:
        raise AuthorizationError("login_required", "The person has to sign in.")
    return None


def _allowed(form: dict[str, list[str]], offered: frozenset[str]) -> frozenset[str]:
    """Return what the person has allowed. Raises AuthorizationError when it is nothing."""
    switched_on = _switches(offered) & set(form.get("scope", ()))
    all_off = not switched_on and bool(_switches(offered))
    if single(form, "decision") != "allow" or all_off or not offered:
        raise AuthorizationError("access_denied", DENIED)
    return switched_on | (offered - _switches(offered))


def _switches(scopes: frozenset[str]) -> frozenset[str]:
    """Return those of the scopes that a person may leave out of what they allow."""
    return scopes - {OPENID, "offline_access"}


async def _ask_for(
    browser: Browser, login: BrowserLogin, wanted: AuthorizationRequest, query: str
) -> Asked:
    """Return what this person can be asked for. Raises AuthorizationError when it is nothing."""
    async with browser.runtime.reading() as db:
        granted = await granted_until(db, login.user_id, now=browser.runtime.now())
        scopes = await wanted.issuable(db, granted)
    return Asked(browser, login, wanted, scopes, query)


async def _answer(asked: Asked, actor: Actor) -> Response:
    """Return a code if the person need not be asked; else the page that asks them."""
    runtime, wanted = asked.browser.runtime, asked.request
    registration = wanted.registration
    acting = actor.signed_in_as(asked.login.user_id)
    if "consent" not in wanted.prompt and registration.trusted:
        async with runtime.work(acting) as work:
            implied = await imply_consent(work, registration, asked.scopes)
            return await _give_code(work, asked, implied, scopes=asked.scopes)
    async with runtime.reading() as db:
        found = await find_consent(db, asked.login.user_id, registration.id)
    remembered = not wanted.reply.redirect_uri.is_on_device and covers(
        found, asked.scopes, host=wanted.reply.redirect_uri.host
    )
    if "consent" not in wanted.prompt and remembered and found:
        async with runtime.work(acting) as work:
            return await _give_code(work, asked, found, scopes=asked.scopes)
    if "none" in wanted.prompt:
        raise AuthorizationError("consent_required", "The person has to agree.")
    return await _ask_for_consent(asked)


async def _ask_for_consent(asked: Asked) -> Response:
    redirect_uri = asked.request.reply.redirect_uri
    shown = " ".join(sorted(asked.scopes))
    async with asked.browser.runtime.reading() as db:
        registered = {each.name: each.description for each in await registered_scopes(db)}
    known = registered | IDENTITY
    response = page(
        "consent.html",
        may_lead_to=redirect_uri.form_action,
        client=asked.request.registration.name,
        host=redirect_uri.host,
        on_device=redirect_uri.is_on_device,
        username=asked.login.username,
        scopes=[(name, known.get(name, "")) for name in sorted(_switches(asked.scopes))],
        identifies=OPENID in asked.scopes,
        shown=shown,
        query=asked.query,
        token=asked.browser.form_token(
            *_bound_to(asked.request.registration, asked.request.reply, asked.query, shown)
        ),
    )
    return asked.browser.keep(response)


async def _give_code(
    work: Work[Actor],
    asked: Asked,
    given: Consent,
    *,
    scopes: frozenset[str],
    ticket: bytes | None = None,
) -> Response:
    """Return the redirect that takes a new code to the client. Raises PageUsed."""
    runtime = asked.browser.runtime
    code = await issue_code(
        work,
        runtime.issuer,
        asked.request.terms(given.registration_id, scopes),
        login=asked.login,
        consent_id=given.id,
        ticket=ticket,
    )
    reply = asked.request.reply
    issuer = runtime.settings.token_issuer
    return see_other(reply.redirect_uri.with_parameters(code=code, state=reply.state, iss=issuer))


def _tell(browser: Browser, reply: Reply, error: AuthorizationError) -> Response:
    """Return the redirect that tells the client what is wrong (RFC 6749 §4.1.2.1, RFC 9207)."""
    return see_other(
        reply.redirect_uri.with_parameters(
            error=error.error,
            error_description=str(error),
            state=reply.state,
            iss=browser.runtime.settings.token_issuer,
        )
    )
