"""OAuth's forms: `application/x-www-form-urlencoded` read strictly, by RFC 6749 §3.2.

FastAPI's form parsing answers 422 with its own body, takes the last of repeated parameters and
replaces broken characters. A token endpoint does none of that.
"""

import base64
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qsl, unquote_plus

from fastapi import Depends, Request

from app.access.clients import authenticate_client
from app.db.work import Actor
from app.errors import InvalidClient, InvalidRequest, OAuthError
from app.identity.clients import Client, ClientCredentials
from app.runtime import Runtime

MEDIA_TYPE = "application/x-www-form-urlencoded"
MAX_FORM_BYTES = 16 * 1024
"""Limit for every form, whatever SCOPEGATE_MAX_BODY_BYTES is: anyone may send a form."""
MAX_BASIC_BYTES = 4 * 1024
MAX_PARAMETERS = 100
MAX_ESCAPES = 3 * 1024
"""Enough for a name, a password and 4 KiB of scopes, all of it escaped; each costs a look-up."""
PARAMETERS = {
    *("grant_type", "username", "password", "refresh_token", "scope"),
    *("client_id", "client_secret", "token", "token_type_hint"),
    *("code", "redirect_uri", "code_verifier"),
}
"""Those that mean something here; any other is ignored, however often it comes."""
FORM_EXAMPLES = {
    "grant_type": "password",
    "username": "alice",
    "password": "correct horse battery staple",
    "refresh_token": "",
    "scope": "read:items",
    "client_id": "",
    "client_secret": "",
    "token": "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9…",
    "token_type_hint": "access_token",
    "code": "",
    "redirect_uri": "",
    "code_verifier": "",
    "resource": "",
}
"""In OpenAPI. An empty parameter counts as absent: the form in /docs is filled in with these."""
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class FormTooLarge(OAuthError):
    """The form is larger than MAX_FORM_BYTES."""

    status = 413
    text = f"The form is larger than {MAX_FORM_BYTES} bytes."


@dataclass(frozen=True, slots=True)
class OAuthForm:
    """The parameters of one request; an empty one counts as absent (RFC 6749 §3.2)."""

    parameters: Mapping[str, str]
    client: tuple[ClientCredentials, ...] = ()
    """The ways to read what the client has presented; a public client has presented nothing."""
    client_id: str | None = None
    """What a client that has presented nothing calls itself."""

    def get(self, name: str) -> str | None:
        """The parameter, None when absent."""
        return self.parameters.get(name) or None

    def require(self, name: str) -> str:
        """The parameter. Raises InvalidRequest when it is absent."""
        value = self.get(name)
        if value is None:
            raise InvalidRequest(f"The parameter {name} is missing.")
        return value


async def oauth_form(request: Request) -> OAuthForm:
    """Return the request's form and its client.

    Raises InvalidRequest, InvalidClient, or FormTooLarge before more than that is kept.
    """
    if len(request.headers.getlist("authorization")) > 1:
        raise InvalidRequest("Send one Authorization header, not several.")
    form = OAuthForm(_parse(await read_pairs(request)))
    authorization = request.headers.get("authorization")
    client_id = form.get("client_id") or _name_without_secret(authorization)
    return OAuthForm(form.parameters, _client(authorization, form), client_id)


FormDep = Annotated[OAuthForm, Depends(oauth_form)]


async def read_pairs(request: Request) -> list[tuple[str, str]]:
    """Return the names and values of a form, in their order.

    Raises InvalidRequest, or FormTooLarge before more than that is kept.
    """
    if not _is_form(request.headers.getlist("content-type")):
        raise InvalidRequest(f"Send the parameters as {MEDIA_TYPE}, in UTF-8.")
    return parse_pairs(await _read(request))


@asynccontextmanager
async def authenticated_client(
    form: OAuthForm, runtime: Runtime, *, actor: Actor
) -> AsyncIterator[Client | None]:
    """Yield the service account that the form's client is; None for a public client.

    The rest of the request belongs in the block: an error raised there is audited. Raises
    ClientRefused when the secret is wrong, Throttled after too many wrong secrets.
    """
    if not form.client:
        yield None
        return
    async with authenticate_client(
        runtime.database, runtime.throttle, readings=form.client, actor=actor
    ) as client:
        yield client


def form_body(*required: str, **descriptions: str) -> dict[str, object]:
    """The OpenAPI declaration of such a form: what its parameters are, and which must be there."""
    properties: dict[str, dict[str, object]] = {
        name: {"type": "string", "description": text, "examples": [FORM_EXAMPLES[name]]}
        for name, text in descriptions.items()
    }
    schema: dict[str, object] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    for name in required:
        # An empty parameter counts as absent.
        properties[name]["minLength"] = 1
    return {"requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": schema}}}}


def _is_form(content_types: list[str]) -> bool:
    """Return whether the one media type is a form's.

    Its parameters are ignored, whatever they say: a form is ASCII, and its escapes are UTF-8.
    """
    return [each.partition(";")[0].strip().lower() for each in content_types] == [MEDIA_TYPE]


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM_BYTES:
            raise FormTooLarge
    return bytes(body)


def parse_pairs(encoded: bytes) -> list[tuple[str, str]]:
    """Return the names and values of a form's body or of a query. Raises InvalidRequest."""
    try:
        text = encoded.decode("ascii")
        if _BROKEN_ESCAPE.search(text):
            raise InvalidRequest("The form has a broken percent-escape.")
        if text.count("%") > MAX_ESCAPES:
            raise InvalidRequest(f"The form has more than {MAX_ESCAPES} percent-escapes.")
        return parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS
        )
    except UnicodeError:
        raise InvalidRequest("The form is not UTF-8, percent-encoded.") from None
    except ValueError:
        raise InvalidRequest("The form has too many parameters.") from None


def _parse(pairs: list[tuple[str, str]]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if name in parameters and name in PARAMETERS:
            raise InvalidRequest(f"The parameter {name} is repeated.")
        parameters[name] = value
    return parameters


def _client(authorization: str | None, form: OAuthForm) -> tuple[ClientCredentials, ...]:
    basic = _basic_credentials(authorization)
    client_id, secret = form.get("client_id"), form.get("client_secret")
    if secret is not None:
        if basic:
            raise InvalidRequest("Authenticate the client in one way, not in two.")
        if client_id is None:
            raise InvalidRequest("The parameter client_id is missing.")
        return (ClientCredentials(client_id, secret),)
    named = tuple(each for each in basic if client_id in {None, each.client_id})
    if basic and not named:
        raise InvalidRequest("The form and the Authorization header name different clients.")
    return named


def split_credentials(authorization: str) -> tuple[str, str]:
    """Return the scheme, in lower case, and what follows it (RFC 9110 §11.4).

    Any number of spaces may stand between them, and white space around the whole (§5.5).
    """
    scheme, _, rest = authorization.strip(" \t").partition(" ")
    return scheme.lower(), rest.lstrip(" ")


def _basic_credentials(authorization: str | None) -> tuple[ClientCredentials, ...]:
    """Return the ways to read HTTP Basic's credentials; none if there are none, or no secret."""
    client_id, secret = _basic_pair(authorization)
    return tuple(_readings(ClientCredentials(client_id, secret))) if secret else ()


def _name_without_secret(authorization: str | None) -> str | None:
    """Return the name in HTTP Basic without a secret: some public clients name themselves so."""
    client_id, secret = _basic_pair(authorization)
    return None if secret else client_id or None


def _basic_pair(authorization: str | None) -> tuple[str, str]:
    """Return HTTP Basic's credentials as they are; two empty ones without any."""
    scheme, encoded = split_credentials(authorization or "")
    if scheme != "basic":
        return "", ""
    if len(encoded) > MAX_BASIC_BYTES:
        raise InvalidClient("The Basic credentials are malformed.")
    try:
        pair = base64.b64decode(encoded, validate=True).decode()
    except ValueError:
        raise InvalidClient("The Basic credentials are malformed.") from None
    client_id, colon, secret = pair.partition(":")
    if not colon:
        raise InvalidClient("The Basic credentials are malformed.")
    return client_id, secret


def _readings(raw: ClientCredentials) -> Iterator[ClientCredentials]:
    """Yield the credentials form-decoded, as RFC 6749 §2.3.1 has it, then as they are.

    Many clients send them as they are, like `curl -u`. Without `+` and `%` both are the same.
    """
    if not _BROKEN_ESCAPE.search(raw.client_id + raw.secret):
        with suppress(UnicodeDecodeError):
            decoded = ClientCredentials(
                unquote_plus(raw.client_id, errors="strict"),
                unquote_plus(raw.secret, errors="strict"),
            )
            if decoded != raw:
                yield decoded
    yield raw
