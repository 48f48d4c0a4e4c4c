"""The API's tests run for every way to make tokens: nothing that a client sees may differ."""

import pytest

from tests.conftest import TokenKind


@pytest.fixture(
    scope="session",
    params=[
        TokenKind(),
        TokenKind(access_token_format="opaque"),
        TokenKind(signing_algorithm="RS256"),
        TokenKind(signing_algorithm="EdDSA"),
        TokenKind(signing_algorithm="HS256"),
    ],
    ids=str,
)
def token_kind(request: pytest.FixtureRequest) -> TokenKind:
    kind: TokenKind = request.param
    return kind
