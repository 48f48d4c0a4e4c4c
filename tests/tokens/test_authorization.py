"""Authorization requests: what is taken of their parameters, and what they may be given."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from app.access.redirects import matching_redirect_uri
from app.access.resources import MAX_RESOURCES
from app.identity.models import Registration
from app.runtime import Runtime
from app.tokens.authorization import (
    MAX_VALUE,
    AuthorizationError,
    AuthorizationRequest,
    Reply,
    parse_request,
)

REDIRECT = "https://app.example/callback"
MOST_RESOURCES = [f"https://{number}.example" for number in range(MAX_RESOURCES)]
ASKING = {
    "response_type": ["code"],
    "code_challenge": ["E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"],
    "code_challenge_method": ["S256"],
}


def parse(ceiling: Sequence[str] | None = None, **parameters: list[str]) -> AuthorizationRequest:
    """The request of an application with this ceiling, with these parameters too."""
    registration = Registration(
        redirect_uris=[REDIRECT], scopes=None if ceiling is None else list(ceiling)
    )
    uri = matching_redirect_uri(REDIRECT, [REDIRECT], issuer="https://auth.example")
    assert uri is not None
    return parse_request(registration, Reply(uri, REDIRECT, None), ASKING | parameters)


def test_what_is_not_asked_for_is_none() -> None:
    request = parse()
    assert (request.scopes, request.prompt, request.resources) == (None, frozenset(), ())
    assert (request.max_age, request.login_hint, request.nonce) == (None, None, None)


def test_what_is_asked_for_is_taken_as_it_is() -> None:
    request = parse(
        scope=["read:items openid"],
        prompt=["login consent"],
        max_age=["60"],
        login_hint=["alice"],
        nonce=["n"],
        resource=["https://b.example", "https://a.example", "https://b.example", ""],
    )
    assert request.scopes == frozenset({"read:items", "openid"})
    assert request.prompt == {"login", "consent"}
    assert (request.max_age, request.login_hint, request.nonce) == (60, "alice", "n")
    assert request.resources == ("https://b.example", "https://a.example")


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"nonce": ["x" * (MAX_VALUE + 1)]}, "invalid_request"),
        ({"nonce": ["a\0b"]}, "invalid_request"),
        ({"nonce": ["a", "b"]}, "invalid_request"),
        (
            {"resource": [f"https://{n}.example" for n in range(MAX_RESOURCES + 1)]},
            "invalid_target",
        ),
        ({"prompt": ["none login"]}, "invalid_request"),
        ({"max_age": ["1234567890"]}, "invalid_request"),
        ({"max_age": ["-1"]}, "invalid_request"),
        ({"max_age": ["²"]}, "invalid_request"),
        ({"response_type": [""]}, "invalid_request"),
        ({"response_type": ["token"]}, "unsupported_response_type"),
        ({"request": ["x"]}, "request_not_supported"),
        ({"request_uri": ["x"]}, "request_uri_not_supported"),
        ({"code_challenge_method": ["plain"]}, "invalid_request"),
        ({"scope": ['a"b']}, "invalid_scope"),
    ],
)
def test_what_is_unfit_is_told_by_its_name(parameters: dict[str, list[str]], error: str) -> None:
    with pytest.raises(AuthorizationError) as refused:
        parse(**parameters)
    assert refused.value.error == error


def test_the_longest_value_and_the_most_resources_are_taken() -> None:
    longest = "x" * MAX_VALUE
    assert parse(nonce=[longest]).nonce == longest
    assert parse(resource=MOST_RESOURCES).resources == tuple(MOST_RESOURCES)
    assert parse(max_age=["999999999"]).max_age == 999999999


def test_who_signed_in_longer_ago_than_the_most_shows_the_password_again(runtime: Runtime) -> None:
    now = runtime.now()
    for parameters, seconds, needed in (
        ({}, 10_000, False),
        ({"max_age": ["60"]}, 59, False),
        ({"max_age": ["60"]}, 61, True),
        ({"prompt": ["login"]}, 0, True),
        ({"prompt": ["consent"]}, 10_000, False),
    ):
        request = parse(**parameters)
        assert request.needs_sign_in(now - timedelta(seconds=seconds), now=now) is needed


@pytest.mark.parametrize(
    ("ceiling", "asked", "granted", "found"),
    [
        # Asked for.
        (None, "read:items write:items", {"read:items"}, {"read:items"}),
        (None, "read:items no:such", {"admin"}, {"read:items"}),
        (None, "read:items openid", {"read:items"}, {"read:items", "openid"}),
        (["read:items"], "read:items write:items", {"admin"}, {"read:items"}),
        # Without any asked for.
        (["read:items", "write:items", "openid"], None, {"read:items"}, {"read:items", "openid"}),
        (["read:items", "write:items"], None, {"admin"}, {"read:items", "write:items"}),
        (None, None, {"read:items"}, {"read:items"}),
    ],
)
async def test_what_is_given_is_asked_for_within_the_ceiling_and_granted(
    runtime: Runtime,
    ceiling: list[str] | None,
    asked: str | None,
    granted: set[str],
    found: set[str],
) -> None:
    parameters: dict[str, Any] = {} if asked is None else {"scope": [asked]}
    request = parse(ceiling, **parameters)
    async with runtime.reading() as db:
        assert await request.issuable(db, dict.fromkeys(granted)) == found


async def test_where_nothing_can_be_given_the_client_is_told(runtime: Runtime) -> None:
    request = parse(["write:items"], scope=["read:items"])
    async with runtime.reading() as db:
        with pytest.raises(AuthorizationError) as refused:
            await request.issuable(db, {"read:items": None})
    assert refused.value.error == "invalid_scope"
