"""The pages on which people make personal access tokens, and the form that revokes one."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from fastapi import Request
from starlette.responses import Response

from app.access.authority import Caller
from app.access.holders import load_holder
from app.access.personal_tokens import (
    MAX_TOKEN_NAME,
    AdminNotConfirmed,
    NewToken,
    revoke_own_token,
)
from app.access.scopes import ADMIN, registered_scopes
from app.api.dependencies import ActorDep
from app.api.routing import Router
from app.api.security import OWN_PAGE
from app.db.work import Actor
from app.errors import DomainError, InvalidToken, Refused
from app.identity.login import confirm_password
from app.pages.account import REVOKE_TOKEN, end_one
from app.pages.browser import Browser, form_of
from app.pages.rendering import PageRoute, page, see_other
from app.runtime import Runtime
from app.tokens.authorization import single
from app.tokens.personal_tokens import MadeToken, make_token

router = Router(route_class=PageRoute, include_in_schema=False, dependencies=[OWN_PAGE])

PAGE = "new-token"
USUAL_LIFE = timedelta(days=90)
"""Of a token whose end the person does not change."""


class NoEnd(Refused):
    """The end is missing, or is no day."""

    text = "Give the day on which the token ends."


@dataclass(frozen=True, slots=True)
class Filled:
    """What a person has filled in, to be shown again if it can't be done."""

    name: str = ""
    scopes: frozenset[str] = frozenset()
    ends: str | None = None

    @classmethod
    def of(cls, form: dict[str, list[str]]) -> "Filled":
        """Return what this form has."""
        scopes = frozenset(form.get("scope", ()))
        return cls(single(form, "name") or "", scopes, single(form, "ends") or "")

    def new_token(self, *, confirm_admin: bool) -> NewToken:
        """Return the token that this asks for. Raises NoEnd."""
        try:
            day = date.fromisoformat(self.ends or "")
        except ValueError:
            raise NoEnd from None
        ends = datetime.combine(day, time(tzinfo=UTC))
        return NewToken(self.name, self.scopes, ends, confirm_admin)


@router.get("/new-token")
async def token_page(request: Request, actor: ActorDep) -> Response:
    """Ask what a new token is for."""
    browser = await Browser.of(request)
    caller = await _person(browser, actor)
    return see_other("sign-in") if caller is None else await _ask(browser, caller, Filled())


@router.post("/new-token")
async def make_own_token(request: Request, actor: ActorDep) -> Response:
    """Make a token as `POST /users/me/tokens` does, and show it this once.

    The person shows their password: a token outlasts the cookie, so a copy of the cookie must not
    be enough for one.
    """
    form, browser = await form_of(request), await Browser.of(request)
    caller = await _person(browser, actor)
    if caller is None:
        return see_other("sign-in")
    filled = Filled.of(form)
    try:
        ticket = browser.check_form(request, single(form, "token") or "", PAGE)
        new = filled.new_token(confirm_admin=single(form, "confirm-admin") == "yes")
        password = single(form, "password") or ""
        made = await _make(browser.runtime, caller, new, password=password, ticket=ticket)
    except InvalidToken:
        return see_other("sign-in")
    except DomainError as error:
        return await _ask(browser, caller, filled, error)
    return page("token_made.html", token=made.value, made=made.token)


@router.post("/revoke-token")
async def revoke_one_token(request: Request, actor: ActorDep) -> Response:
    """Revoke one of the person's own tokens; repeating it changes nothing."""
    return await end_one(request, actor, REVOKE_TOKEN, revoke_own_token, field="id", told="token")


async def _make(
    runtime: Runtime, caller: Caller, new: NewToken, *, password: str, ticket: bytes
) -> MadeToken:
    """Return a new token, if the password is right. Raises what refuses either."""
    assert caller.user_id is not None
    assert caller.session_id is not None
    longest = runtime.settings.max_token_lifetime
    async with (
        confirm_password(
            runtime.guard,
            caller.user_id,
            session_id=caller.session_id,
            password=password,
            actor=caller,
        ),
        runtime.work(caller) as work,
    ):
        return await make_token(work, new, longest=longest, ticket=ticket)


async def _person(browser: Browser, actor: Actor) -> Caller | None:
    """Return who is signed in, with all that they hold now. None: no one is."""
    login = browser.login
    if login is None:
        return None
    now = browser.runtime.now()
    async with browser.runtime.reading() as db:
        holder = await load_holder(db, login.session_id, user_id=login.user_id, now=now)
    return Caller.of(holder.principal(holder.held), actor.origin) if holder else None


async def _ask(
    browser: Browser, caller: Caller, filled: Filled, error: DomainError | None = None
) -> Response:
    today = browser.runtime.now().date()
    longest = browser.runtime.settings.max_token_lifetime
    async with browser.runtime.reading() as db:
        known = {each.name: each.description for each in await registered_scopes(db)}
    # What may do everything comes last.
    names = sorted(caller.scopes, key=lambda name: (name == ADMIN, name))
    text = str(error) if error else None
    if isinstance(error, AdminNotConfirmed):
        text = "A token with admin may do everything: confirm that below."
    return page(
        "new_token.html",
        error.status if error else 200,
        headers=error.headers if error else None,
        error=text,
        username=caller.principal.username if caller.principal else "",
        filled=filled,
        most_characters=MAX_TOKEN_NAME,
        scopes=[(name, known.get(name, "")) for name in names],
        is_admin=caller.is_admin,
        ends=filled.ends or (today + min(USUAL_LIFE, longest)).isoformat(),
        first_end=(today + timedelta(days=1)).isoformat(),
        last_end=(today + longest).isoformat(),
        token=browser.form_token(PAGE),
    )
