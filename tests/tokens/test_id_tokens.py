"""ID tokens as hints: which are ours, however old they are."""

import uuid
from typing import Any

import jwt
import pytest

from app.identity.models import ID_TOKEN_ALGORITHM
from app.runtime import Runtime
from app.tokens.id_tokens import Hint, half_hash

SUBJECT, SESSION = str(uuid.uuid4()), str(uuid.uuid4())


def signed(runtime: Runtime, *, typ: str | None = "JWT", **claims: Any) -> str:
    """What our key for ID tokens signs; a claim that is None is left out."""
    now = int(runtime.now().timestamp())
    ids = runtime.issuer.id_tokens
    key = ids.keyring.signing_id_tokens(runtime.now(), ID_TOKEN_ALGORITHM)
    said: dict[str, Any] = {
        "iss": ids.issuer,
        "sub": SUBJECT,
        "aud": "app",
        "sid": SESSION,
        "iat": now,
        "exp": now + 900,
        **claims,
    }
    payload = {name: value for name, value in said.items() if value is not None}
    headers = {"kid": key.kid, "typ": typ}
    return jwt.encode(payload, key.private, algorithm=key.algorithm, headers=headers)


async def read(runtime: Runtime, token: str) -> Hint | None:
    return await runtime.issuer.id_tokens.read_hint(token, now=runtime.now())


async def test_one_of_ours_is_read_also_when_it_is_over_or_from_a_clock_ahead(
    runtime: Runtime,
) -> None:
    now = int(runtime.now().timestamp())
    for issued, expires in ((now, now + 900), (now - 900, now - 1), (now + 600, now + 900)):
        hint = await read(runtime, signed(runtime, iat=issued, exp=expires))
        assert hint == Hint(subject=SUBJECT, client_id="app", session_id=SESSION)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.example"},
        {"iss": None},
        {"sub": None},
        {"aud": None},
        {"aud": ["app", "other"]},
        {"sid": None},
        {"sid": 1},
        {"typ": "at+jwt"},
        {"typ": None},
    ],
    ids=str,
)
async def test_what_is_no_id_token_of_this_service_is_none(
    runtime: Runtime, changes: dict[str, Any]
) -> None:
    assert await read(runtime, signed(runtime, **changes)) is None


def test_at_hash_is_half_of_the_hash_that_belongs_to_the_algorithm() -> None:
    """RS256's is the example of OpenID Connect Core's appendix A.3."""
    token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"
    assert half_hash(token, "RS256") == "77QmUPtjPfzWtF2AnpK9RQ"
    assert half_hash(token, "ES256") == "77QmUPtjPfzWtF2AnpK9RQ"
    assert len(half_hash(token, "EdDSA")) == 43, "32 of SHA-512's 64 bytes"
