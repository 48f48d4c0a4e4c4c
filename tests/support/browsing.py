"""An application that signs people in, and a browser without scripts, as RFC 6749 has them."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2

from app.access.client_registry import NewClient, register_client
from app.runtime import Runtime
from app.tokens.codes import challenge_of
from tests.conftest import client_of
from tests.support.factories import OPERATOR, PASSWORD, SignedIn, Someone

CALLBACK = "https://app.example/callback"


class Form(HTMLParser):
    """The last form of a page: where it goes, what it has in it, and the page's text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self.scopes: list[str] = []
        self.actions: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of a form or an input."""
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = found["action"]
            self.fields = {}
            self.actions.append(self.action)
        elif tag == "input" and found.get("type") == "hidden":
            self.fields[found["name"]] = found["value"]
        elif tag == "input" and found.get("name") == "scope" and "role" in found:
            assert "checked" in found
            self.scopes.append(found["value"])

    def handle_data(self, data: str) -> None:
        """Take note of text."""
        self.text += data


def form_with(page: str, text: str) -> Form:
    """The first form of a page that has this in it."""
    found = page.index(text)
    start = page.rindex("<form", 0, page.index("</form>", found))
    return Form(page[start : page.index("</form>", start)])


@dataclass
class Application:
    """A client, and what it remembers of its request."""

    client_id: str
    redirect_uri: str = CALLBACK
    secret: str | None = None
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    state: str = field(default_factory=lambda: secrets.token_urlsafe(8))

    def asking(self, **changes: str | None) -> dict[str, str]:
        """The parameters of its authorization request; those of None are left out."""
        parameters = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": "read:items",
            "state": self.state,
            "code_challenge": challenge_of(self.verifier),
            "code_challenge_method": "S256",
            **changes,
        }
        return {name: value for name, value in parameters.items() if value is not None}

    async def redeem(
        self, client: httpx2.AsyncClient, code: str, **changes: str | None
    ) -> httpx2.Response:
        """What POST /token answers to this code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "client_id": self.client_id,
            "code_verifier": self.verifier,
            "client_secret": self.secret,
            **changes,
        }
        data = {name: value for name, value in form.items() if value is not None}
        return await client.post("/token", data=data)

    async def tokens(self, client: httpx2.AsyncClient, code: str) -> SignedIn:
        """The tokens for this code, which must be good."""
        answer = await self.redeem(client, code)
        assert answer.status_code == 200, answer.text
        return SignedIn(client, answer.json())

    async def refresh(self, client: httpx2.AsyncClient, token: str, **form: str) -> httpx2.Response:
        """What POST /token answers to this refresh token of the application's."""
        data = {
            "grant_type": "refresh_token",
            "refresh_token": token,
            "client_id": self.client_id,
            **({"client_secret": self.secret} if self.secret else {}),
            **form,
        }
        return await client.post("/token", data=data)


async def register(runtime: Runtime, client_id: str = "app", **terms: Any) -> Application:
    """A client that an operator has registered."""
    uris = terms.setdefault("redirect_uris", [CALLBACK])
    async with runtime.work(OPERATOR) as work:
        new = NewClient("An app", client_id=client_id, **terms)
        _, secret = await register_client(work, new)
    return Application(client_id, uris[0], secret.value if secret else None)


@dataclass
class PersonsBrowser:
    """A browser that keeps cookies, and follows no redirect by itself."""

    client: httpx2.AsyncClient

    @classmethod
    def of(cls, runtime: Runtime) -> "PersonsBrowser":
        """A new browser, to be closed with its client."""
        return cls(client_of(runtime))

    async def authorize(self, application: Application, **changes: str | None) -> httpx2.Response:
        """What GET /authorize answers."""
        return await self.client.get("/authorize", params=application.asking(**changes))

    async def sign_in(
        self, user: Someone, query: str = "", password: str = PASSWORD
    ) -> httpx2.Response:
        """What the sign-in page answers to this user's password."""
        page = await self.client.get(f"/sign-in{query}")
        assert page.status_code == 200, page.text
        form = Form(page.text)
        data = {**form.fields, "username": user.username, "password": password}
        return await self.client.post(f"/{form.action}", data=data)

    async def press(self, path: str, text: str, **changes: str) -> httpx2.Response:
        """What the form with this text on that page is answered, with these fields changed."""
        form = form_with((await self.client.get(path)).text, text)
        return await self.client.post(f"/{form.action}", data={**form.fields, **changes})

    async def follow(self, answer: httpx2.Response) -> httpx2.Response:
        """The page that a form led to."""
        assert answer.status_code == 303, answer.text
        return await self.client.get(f"/{answer.headers['location']}")

    async def decide(
        self,
        page: httpx2.Response,
        *,
        decision: str = "allow",
        scopes: Iterable[str] | None = None,
        **changes: str,
    ) -> httpx2.Response:
        """What the consent page answers to this decision; all scopes are on at first."""
        assert page.status_code == 200, page.text
        form = Form(page.text)
        chosen = list(form.scopes if scopes is None else scopes)
        data = {**form.fields, "decision": decision, "scope": chosen, **changes}
        return await self.client.post(f"/{form.action}", data=data)

    async def code(self, application: Application, **changes: str | None) -> str:
        """A code for the application; the person is signed in, and agrees if they are asked."""
        answer = await self.authorize(application, **changes)
        if answer.status_code == 200:
            answer = await self.decide(answer)
        return answered(answer)["code"]

    async def let_in(self, application: Application, **changes: str | None) -> SignedIn:
        """The application's tokens, after all steps."""
        return await application.tokens(self.client, await self.code(application, **changes))


def answered(answer: httpx2.Response) -> dict[str, str]:
    """The parameters that a redirect to the application carries."""
    assert answer.status_code == 303, answer.text
    query = parse_qs(urlsplit(answer.headers["location"]).query, strict_parsing=True)
    return {name: value for name, (value,) in query.items()}
