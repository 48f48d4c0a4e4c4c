"""/logout: an application asks that the person be signed out here (RP-Initiated Logout 1.0)."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlencode

from fastapi import Request
from starlette.responses import Response

from app.access.consents import find_consent
from app.access.own_account import end_own_sessions
from app.access.redirects import RedirectUri, addresses
from app.api.dependencies import ActorDep
from app.api.forms import parse_pairs
from app.api.routing import Router
from app.api.security import OWN_PAGE
from app.errors import DomainError
from app.identity.models import Registration
from app.identity.registrations import find_registration
from app.pages.account import end_login
from app.pages.browser import Browser, form_of, grouped, spelled
from app.pages.rendering import PageRoute, page, see_other
from app.tokens.authorization import Parameters, single
from app.tokens.id_tokens import Hint

router = Router(route_class=PageRoute, include_in_schema=False, dependencies=[OWN_PAGE])

PAGE = "logout"
PARAMETERS = ("id_token_hint", "client_id", "post_logout_redirect_uri", "state")


class WrongLogout(DomainError):
    """The request names no place to go back to that is its client's, so nothing is sent there."""

    text = (
        "The application that sent you here wants you back at an address that is not registered "
        "for it. You are still signed in, and nothing was sent there."
    )


@dataclass(frozen=True, slots=True)
class LogoutRequest:
    """What an application asks for."""

    browser: Browser
    hint: Hint | None
    """What its ID token says, if that is one of ours."""
    back_to: RedirectUri | None
    state: str | None
    query: str
    """The request, to be asked again."""

    @classmethod
    async def of(cls, request: Request, parameters: Parameters) -> Self:
        """Return the request. Raises WrongLogout where it asks to be sent to a strange address."""
        browser = await Browser.of(request)
        runtime, token = browser.runtime, single(parameters, "id_token_hint")
        hint = None
        if token is not None:
            hint = await runtime.issuer.id_tokens.read_hint(token, now=runtime.now())
        named = single(parameters, "client_id")
        if hint is not None and named not in {None, hint.client_id}:
            raise WrongLogout
        client_id = hint.client_id if hint else named
        async with runtime.reading() as db:
            registration = await find_registration(db, client_id) if client_id else None
            consent = None
            if registration is not None and browser.login is not None:
                consent = await find_consent(db, browser.login.user_id, registration.id)
        # A client that was deleted, or that the person has removed, does nothing unasked.
        hint = hint if consent else None
        uri, issuer = single(parameters, "post_logout_redirect_uri"), runtime.settings.token_issuer
        back_to = _back_to(registration, uri, issuer=issuer)
        said: dict[str, str | None] = {
            # A page's address has no token: it names the client that the token told.
            "client_id": client_id,
            "post_logout_redirect_uri": back_to.uri if back_to else None,
            "state": single(parameters, "state"),
        }
        query = urlencode({name: value for name, value in said.items() if value is not None})
        return cls(browser, hint, back_to, said["state"], query)

    @property
    def comes_from_the_person(self) -> bool:
        """Whether the application has an ID token of who is signed in: then they need not be asked.

        Also one that has expired: another site has none.
        """
        login, hint = self.browser.login, self.hint
        return login is not None and hint is not None and hint.subject == str(login.user_id)

    def done(self) -> Response:
        """Return where the person goes on once they are signed out; the cookie goes."""
        where = "sign-in"
        if self.back_to is not None:
            where = self.back_to.with_parameters(state=self.state)
        answer = see_other(where)
        return answer if self.browser.is_new else self.browser.forget(answer)


def _back_to(
    registration: Registration | None, uri: str | None, *, issuer: str
) -> RedirectUri | None:
    """Return where the person goes back to. Raises WrongLogout."""
    if uri is None:
        return None
    known = registration.post_logout_redirect_uris if registration else ()
    if uri not in addresses(known, issuer=issuer):
        raise WrongLogout
    return RedirectUri(uri)


@router.get("/logout")
async def logout(request: Request, actor: ActorDep) -> Response:
    """Sign the person out, if the application shows that they have signed in to it; else ask."""
    parameters = grouped(parse_pairs(request.scope["query_string"]))
    asked = await LogoutRequest.of(request, parameters)
    browser = asked.browser
    if browser.login is None:
        return asked.done()
    if asked.comes_from_the_person:
        await end_login(browser, actor)
        return asked.done()
    response = page(
        "logout.html",
        may_lead_to=asked.back_to.form_action if asked.back_to else "",
        username=browser.login.username,
        query=asked.query,
        token=browser.form_token(PAGE, asked.query),
    )
    return browser.keep(response)


@router.post("/logout")
async def logout_by_form(request: Request) -> Response:
    """Do as a GET does with the same parameters."""
    # A browser sends no cookie with another site's form. It does with the GET that follows.
    form = await form_of(request)
    kept = {name: values for name, values in form.items() if name in PARAMETERS}
    return see_other(f"logout?{spelled(kept)}")


@router.post("/confirm-logout")
async def confirm_logout(request: Request, actor: ActorDep) -> Response:
    """Do what the person has decided on the page that asks them."""
    parameters, form = grouped(parse_pairs(request.scope["query_string"])), await form_of(request)
    asked = await LogoutRequest.of(request, parameters)
    browser = asked.browser
    browser.check_form(request, single(form, "token") or "", PAGE, asked.query)
    decision = single(form, "decision")
    if browser.login is None:
        return asked.done()
    if decision == "everywhere":
        async with browser.runtime.work(actor.signed_in_as(browser.login.user_id)) as work:
            await end_own_sessions(work)
        return asked.done()
    if decision == "here":
        await end_login(browser, actor)
        return asked.done()
    return see_other("account")
