"""The browser behind a request: its cookie, who is signed in by it, and forms that come from it."""

from dataclasses import dataclass
from urllib.parse import urlencode

from fastapi import Request
from starlette.responses import Response

from app.api.dependencies import actor, runtime_of
from app.api.forms import parse_pairs, read_pairs
from app.api.middleware import COOKIES
from app.errors import DomainError
from app.identity.browser_sessions import BrowserLogin, find_browser_login
from app.runtime import Runtime
from app.tokens.authorization import PARAMETERS
from app.tokens.browser import new_cookie

MAX_COOKIE = 256
KEPT = PARAMETERS | {"resource"}
"""The parameters of an authorization request that go along from page to page."""


class ForeignForm(DomainError):
    """The form was not sent from our page in this browser, or the page was open for too long."""

    status = 403
    text = (
        "This form did not come from a page of ours in this browser, the page was open for too "
        "long, or the browser keeps no cookies. Try again."
    )


@dataclass(frozen=True, slots=True)
class Browser:
    """One browser: the cookie that it sent or now gets, and who is signed in by that."""

    runtime: Runtime
    cookie: str
    is_new: bool
    login: BrowserLogin | None
    address: str | None = None
    """Where the request came from, as far as it is known."""

    @classmethod
    async def of(cls, request: Request) -> "Browser":
        """Return the browser that sent this request."""
        runtime = runtime_of(request)
        address = (await actor(request, runtime)).origin.address
        cookie = _sent_cookie(request, cookie_name(runtime))
        if cookie is None:
            return cls(runtime, new_cookie(), is_new=True, login=None, address=address)
        async with runtime.reading() as db:
            login = await find_browser_login(db, cookie, now=runtime.now())
        return cls(runtime, cookie, is_new=False, login=login, address=address)

    def form_token(self, *bound_to: str) -> str:
        """Return the token of a form that is bound to this browser, its user and these."""
        return self.runtime.page_tokens.write(*self._bound(bound_to), now=self.runtime.now())

    def check_form(self, request: Request, token: str, *bound_to: str) -> bytes:
        """Return the ticket of the form. Raises ForeignForm if another page sent it."""
        # Browsers that say where a request comes from must say that it comes from here.
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise ForeignForm
        now = self.runtime.now()
        ticket = self.runtime.page_tokens.read(token, *self._bound(bound_to), now=now)
        if self.is_new or ticket is None:
            raise ForeignForm
        return ticket

    def _bound(self, bound_to: tuple[str, ...]) -> tuple[str, ...]:
        return self.cookie, str(self.login.user_id) if self.login else "", *bound_to

    def keep(self, response: Response, cookie: str | None = None) -> Response:
        """Return the response, which sets this cookie; or a new browser's, so that it has one."""
        if cookie is None and not self.is_new:
            return response
        response.set_cookie(
            cookie_name(self.runtime),
            cookie or self.cookie,
            path="/",
            secure=is_secure(self.runtime),
            httponly=True,
            samesite="lax",
        )
        return response

    def forget(self, response: Response) -> Response:
        """Return the response, which removes the cookie."""
        response.delete_cookie(
            cookie_name(self.runtime),
            path="/",
            secure=is_secure(self.runtime),
            httponly=True,
            samesite="lax",
        )
        return response


def is_secure(runtime: Runtime) -> bool:
    """Whether people reach this service by https."""
    return runtime.settings.token_issuer.startswith("https:")


def cookie_name(runtime: Runtime) -> str:
    """Return the cookie's name: with the prefix, no other host and no http page can set it."""
    return "__Host-scopegate" if is_secure(runtime) else "scopegate"


def _sent_cookie(request: Request, name: str) -> str | None:
    """Return the browser's cookie; None if it sent none, or more than one of that name."""
    raw: list[bytes] = request.scope["state"].get(COOKIES, [])
    pairs = [
        # White space of HTTP alone: a browser keeps other characters as part of the name.
        each.strip(" \t").partition("=")
        for header in raw
        for each in header.decode("latin-1").split(";")
    ]
    values = [value for sent, _, value in pairs if sent == name]
    if len(values) != 1 or not 0 < len(values[0]) <= MAX_COOKIE or not values[0].isascii():
        return None
    return values[0]


def query_of(request: Request) -> dict[str, list[str]]:
    """Return the authorization request in the query. Raises InvalidRequest."""
    return known(grouped(parse_pairs(request.scope["query_string"])))


async def form_of(request: Request) -> dict[str, list[str]]:
    """Return the values of each name in a form. Raises InvalidRequest or FormTooLarge."""
    return grouped(await read_pairs(request))


def known(parameters: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the parameters that mean something in an authorization request."""
    return {name: values for name, values in parameters.items() if name in KEPT}


def spelled(parameters: dict[str, list[str]]) -> str:
    """Return the query of this authorization request: always the same for the same request."""
    return urlencode([(name, value) for name, values in parameters.items() for value in values])


def grouped(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the values of each name, in their order."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found
