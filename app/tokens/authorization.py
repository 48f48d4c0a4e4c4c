"""Authorization requests: what a client asks for, checked in the order that keeps it safe.

First the client, then its redirect URI: until both are known good, nothing is sent to the URI. What
is wrong after that is told to the client there.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from app.access.client_limits import within_ceiling
from app.access.holdings import Granted
from app.access.redirects import RedirectUri, addresses, matching_redirect_uri
from app.access.resources import MAX_RESOURCES, within_resources
from app.access.scopes import ADMIN, IDENTITY, parse_scope, registered_of, registered_scopes
from app.db.base import is_storable
from app.errors import DomainError, InvalidScope, InvalidTarget
from app.identity.models import Registration
from app.tokens.codes import CodeTerms, is_challenge

PARAMETERS = {
    *("response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge"),
    *("code_challenge_method", "nonce", "prompt", "max_age", "login_hint", "request"),
    *("request_uri", "response_mode"),
}
"""Those that mean something here and must not be repeated."""
MAX_VALUE = 4096
"""Characters of one parameter."""


class UnknownClient(DomainError):
    """No client can be told: the person is."""

    text = "The application that sent you here is not registered. Nothing was sent to it."


class WrongRedirect(DomainError):
    """The redirect URI is not one of the client's, so nothing may be sent there."""

    text = (
        "The application that sent you here wants you back at an address that is not registered "
        "for it. Nothing was sent there."
    )


class AuthorizationError(DomainError):
    """An error that the client is told, at its redirect URI (RFC 6749 §4.1.2.1)."""

    def __init__(self, error: str, text: str) -> None:
        super().__init__(text)
        self.error = error


@dataclass(frozen=True, slots=True)
class Reply:
    """Where answers go, once the client and its redirect URI are known good."""

    redirect_uri: RedirectUri
    given: str | None
    """The redirect URI as the request had it; None: it was left out."""
    state: str | None


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """What a client asks for. All of it is checked, but not yet who is asked."""

    registration: Registration
    reply: Reply
    scopes: frozenset[str] | None
    challenge: str
    prompt: frozenset[str]
    max_age: int | None
    login_hint: str | None
    nonce: str | None
    resources: tuple[str, ...]
    """The services that tokens are asked for (RFC 8707); none: as without it."""

    def needs_sign_in(self, signed_in_at: datetime, *, now: datetime) -> bool:
        """Whether the person has to show their password again."""
        if "login" in self.prompt:
            return True
        return self.max_age is not None and now - signed_in_at > timedelta(seconds=self.max_age)

    def terms(self, registration_id: uuid.UUID, scopes: frozenset[str]) -> CodeTerms:
        """Return what a code for these scopes is bound to."""
        return CodeTerms(
            registration_id,
            self.reply.given,
            self.challenge,
            scopes,
            self.nonce,
            self.resources,
        )

    async def issuable(self, db: AsyncSession, granted: Granted) -> frozenset[str]:
        """Return the scopes asked for ∩ the client's ceiling ∩ granted now.

        Without any asked for: the ceiling ∩ granted. Raises AuthorizationError when it is nothing.
        """
        held, ceiling = frozenset(granted), self.registration.scopes
        if self.scopes is not None:
            # An admin holds every scope that is registered.
            asked = self.scopes
            held = await registered_of(db, asked) if ADMIN in held else held & asked
            held |= asked & IDENTITY.keys()
        else:
            if ADMIN in held:
                held |= {each.name for each in await registered_scopes(db)}
            held |= IDENTITY.keys() & set(ceiling or ())
        found = within_ceiling(held, None if ceiling is None else frozenset(ceiling))
        try:
            found = await within_resources(db, found, self.resources)
        except InvalidTarget as error:
            raise AuthorizationError("invalid_target", str(error)) from None
        if not found:
            raise AuthorizationError(
                "invalid_scope", "None of the scopes asked for can be given to this application."
            )
        return found


Parameters = Mapping[str, Sequence[str]]


def single(parameters: Parameters, name: str) -> str | None:
    """Return the parameter, None when it is absent or empty or repeated."""
    values = parameters.get(name, ())
    return values[0] if len(values) == 1 and values[0] else None


def reply_of(registration: Registration, parameters: Parameters, *, issuer: str) -> Reply:
    """Return where the client's answers go. Raises WrongRedirect."""
    values = [each for each in parameters.get("redirect_uri", ()) if each]
    if len(values) > 1 or (not values and len(registration.redirect_uris) != 1):
        raise WrongRedirect
    given = values[0] if values else None
    registered = registration.redirect_uris
    wanted = given or addresses(registered, issuer=issuer)[0]
    uri = matching_redirect_uri(wanted, registered, issuer=issuer)
    if uri is None:
        raise WrongRedirect
    return Reply(uri, given, single(parameters, "state"))


def parse_request(
    registration: Registration, reply: Reply, parameters: Parameters
) -> AuthorizationRequest:
    """Return what the client asks for. Raises AuthorizationError."""
    for name in sorted(PARAMETERS & parameters.keys()):
        if len(parameters[name]) > 1:
            raise AuthorizationError("invalid_request", f"The parameter {name} is repeated.")
        if len(parameters[name][0]) > MAX_VALUE or not is_storable(parameters[name][0]):
            raise AuthorizationError("invalid_request", f"The parameter {name} is unfit.")
    for name in ("request", "request_uri"):
        if single(parameters, name):
            raise AuthorizationError(f"{name}_not_supported", f"{name} is not supported.")
    if single(parameters, "response_type") is None:
        raise AuthorizationError("invalid_request", "The parameter response_type is missing.")
    if single(parameters, "response_type") != "code":
        raise AuthorizationError("unsupported_response_type", "The only response type is code.")
    resources = tuple(dict.fromkeys(filter(None, parameters.get("resource", ()))))
    if len(resources) > MAX_RESOURCES:
        raise AuthorizationError("invalid_target", "Too many resources are asked for at once.")
    prompt = frozenset((single(parameters, "prompt") or "").split())
    if "none" in prompt and len(prompt) > 1:
        raise AuthorizationError("invalid_request", "prompt=none goes with no other prompt.")
    return AuthorizationRequest(
        registration,
        reply,
        _scopes(single(parameters, "scope")),
        _challenge(parameters),
        prompt,
        _max_age(single(parameters, "max_age")),
        single(parameters, "login_hint"),
        single(parameters, "nonce"),
        resources,
    )


def _challenge(parameters: Parameters) -> str:
    challenge = single(parameters, "code_challenge") or ""
    if single(parameters, "code_challenge_method") != "S256" or not is_challenge(challenge):
        raise AuthorizationError(
            "invalid_request",
            "Send code_challenge, of 43 characters, and code_challenge_method=S256.",
        )
    return challenge


def _scopes(scope: str | None) -> frozenset[str] | None:
    try:
        return None if scope is None else parse_scope(scope)
    except InvalidScope as error:
        raise AuthorizationError("invalid_scope", str(error)) from None


def _max_age(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise AuthorizationError("invalid_request", "max_age is a number of seconds.")
    return int(text)
