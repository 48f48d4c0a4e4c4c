"""JWTs by RFC 9068, and the keys that verify them."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from client.tests.stand_in import OWN, Key, StandIn, following, until
from scopegate_client import InvalidToken, Scopegate, Unavailable, tokens


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    async with StandIn().serving() as serving:
        yield serving


def signed(stand_in: StandIn, header: dict[str, Any] | None = None, **changed: Any) -> str:
    """Return a token with a good signature, in which something else is not as it must be."""
    claims = {name: value for name, value in (stand_in.claims() | changed).items() if value != ...}
    key = stand_in.keys[-1]
    headers = {"kid": key.kid, "typ": "at+jwt"} | (header or {})
    return jwt.encode(claims, key.private, algorithm="ES256", headers=headers)


async def refused(scopegate: Scopegate, token: str) -> bool:
    try:
        await scopegate.check(token)
    except InvalidToken:
        return True
    return False


async def test_a_token_is_good_with_either_name_of_its_type_and_among_several_audiences(
    stand_in: StandIn,
) -> None:
    async with following(stand_in) as scopegate:
        for token in (
            signed(stand_in),
            signed(stand_in, {"typ": "application/at+jwt"}),
            signed(stand_in, aud=["https://another.example", stand_in.issuer]),
            signed(stand_in, new="claim"),
        ):
            assert not await refused(scopegate, token)


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://another.example"},
        {"iss": "SLASH"},
        {"iss": ...},
        {"aud": "https://another.example"},
        {"aud": []},
        {"aud": ...},
        *({name: ...} for name in ("sub", "client_id", "sid", "jti", "scope", "iat", "exp")),
        *({name: 7} for name in ("client_id", "sid", "scope")),
        {"scope": ["read:orders"]},
        {"exp": "soon"},
        {"exp": None},
        {"exp": True},
        {"exp": []},
        {"exp": -1},
        {"exp": 1e99},
        {"exp": 2**70},
        {"iat": "now"},
    ],
    ids=str,
)
async def test_a_claim_that_is_missing_or_wrong_makes_the_token_worthless(
    stand_in: StandIn, changed: dict[str, Any]
) -> None:
    if changed == {"iss": "SLASH"}:
        changed = {"iss": f"{stand_in.issuer}/"}
    async with following(stand_in) as scopegate:
        if isinstance(changed.get("iat", changed.get("exp")), str):
            # PyJWT writes no such token.
            token = raw(stand_in, changed)
        else:
            token = signed(stand_in, **changed)
        assert await refused(scopegate, token)
        assert scopegate.state.introspections == 0


def raw(stand_in: StandIn, changed: dict[str, Any]) -> str:
    key = stand_in.keys[-1]
    payload = json.dumps(stand_in.claims() | changed).encode()
    headers = {"kid": key.kid, "typ": "at+jwt"}
    return jwt.PyJWS().encode(payload, key.private, algorithm="ES256", headers=headers)


@pytest.mark.parametrize("typ", ["JWT", "at+JWT2", None, "", 7])
async def test_another_type_of_jwt_is_no_access_token(stand_in: StandIn, typ: Any) -> None:
    async with following(stand_in) as scopegate:
        assert await refused(scopegate, signed(stand_in, {"typ": typ}))


async def test_a_forged_signature_is_refused(stand_in: StandIn) -> None:
    async with following(stand_in) as scopegate:
        head, claims, _ = stand_in.token().split(".")
        signature = stand_in.token().split(".")[2]
        assert await refused(scopegate, f"{head}.{claims}.{signature}")
        assert await refused(scopegate, f"{head}.{claims}.")
        stranger = Key(kid=stand_in.keys[0].kid)
        headers = {"kid": stranger.kid, "typ": "at+jwt"}
        forged = jwt.encode(stand_in.claims(), stranger.private, "ES256", headers)
        assert await refused(scopegate, forged)


async def test_the_key_says_which_algorithm_counts_and_the_token_does_not(
    stand_in: StandIn,
) -> None:
    async with following(stand_in) as scopegate:
        key = stand_in.keys[0]
        pem = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        headers = {"kid": key.kid, "typ": "at+jwt"}

        def b64(part: bytes) -> str:
            return base64.urlsafe_b64encode(part).rstrip(b"=").decode()

        claims = b64(json.dumps(stand_in.claims()).encode())
        none = f"{b64(json.dumps(headers | {'alg': 'none'}).encode())}.{claims}."
        assert await refused(scopegate, none)
        rsa = generate_private_key(65537, 2048)
        wrong = jwt.encode(stand_in.claims(), rsa, "RS256", headers)
        assert await refused(scopegate, wrong)
        # By a shared secret: Scopegate alone can judge it, and does not know it.
        hmac = jwt.PyJWS(options={"enforce_minimum_key_length": False})
        secret = base64.b64encode(pem).decode()
        shared = hmac.encode(json.dumps(stand_in.claims()).encode(), secret, "HS256", headers)
        assert await refused(scopegate, shared)
        assert scopegate.state.introspections == 1


async def test_a_token_by_a_shared_secret_is_introspected_like_an_opaque_one(
    stand_in: StandIn,
) -> None:
    async with following(stand_in) as scopegate:
        claims = stand_in.claims()
        token = jwt.encode(claims, "x" * 32, "HS256", {"kid": "shared", "typ": "at+jwt"})
        stand_in.know(token, claims)
        for _ in range(3):
            assert (await scopegate.check(token)).subject == claims["sub"]
        assert scopegate.state.introspections == 1


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
async def test_keys_of_other_algorithms_verify_too(stand_in: StandIn, algorithm: str) -> None:
    if algorithm == "RS256":
        rsa = generate_private_key(65537, 2048)
        private: Any = rsa
        jwk = RSAAlgorithm.to_jwk(rsa.public_key(), as_dict=True)
    else:
        private = Ed25519PrivateKey.generate()
        jwk = OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)
    stand_in.more_keys = [jwk | {"kid": "other", "alg": algorithm, "use": "sig"}]
    async with following(stand_in) as scopegate:
        headers = {"kid": "other", "typ": "at+jwt"}
        assert not await refused(
            scopegate, jwt.encode(stand_in.claims(), private, algorithm, headers)
        )


async def test_a_shared_secret_among_the_published_keys_verifies_nothing(
    stand_in: StandIn,
) -> None:
    secret = base64.urlsafe_b64encode(b"x" * 32).rstrip(b"=").decode()
    stand_in.more_keys = [{"kty": "oct", "kid": "shared", "k": secret, "alg": "HS256"}]
    async with following(stand_in) as scopegate:
        token = jwt.encode(stand_in.claims(), "x" * 32, "HS256", {"kid": "shared"})
        assert await refused(scopegate, token)


async def test_unknown_key_ids_have_the_keys_fetched_once_in_five_seconds(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(stand_in) as scopegate:
        await scopegate.check(stand_in.token())
        for number in range(20):
            assert await refused(scopegate, signed(stand_in, {"kid": f"made up {number}"}))
        assert stand_in.count("/.well-known/jwks.json") == 1
        assert tokens.FETCH_INTERVAL == 5.0
        monkeypatch.setattr(tokens, "FETCH_INTERVAL", 0.0)
        stand_in.keys.append(Key())
        assert not await refused(scopegate, stand_in.token())
        assert stand_in.count("/.well-known/jwks.json") == 2


async def test_when_keys_change_they_are_fetched_again_and_a_retired_one_counts_no_more(
    stand_in: StandIn,
) -> None:
    async with following(stand_in) as scopegate:
        old = stand_in.token()
        assert not await refused(scopegate, old)
        stand_in.keys = [Key()]
        stand_in.event(f"{OWN}keys-changed", {"format": "opaque", "id": stand_in.issuer})
        await until(lambda: scopegate.state.events)
        assert await refused(scopegate, old)
        assert not await refused(scopegate, stand_in.token())
        assert stand_in.count("/.well-known/jwks.json") == 2
        assert scopegate.state.introspections == 0


async def test_keys_are_kept_when_a_fetch_fails_and_scopegate_is_asked_about_their_tokens(
    stand_in: StandIn,
) -> None:
    async with following(stand_in) as scopegate:
        token, leaked = stand_in.token(), stand_in.token()
        for each in (token, leaked):
            await scopegate.check(each)
        stand_in.answers[leaked] = {"active": False}
        stand_in.statuses["/.well-known/jwks.json"] = 503
        stand_in.event(f"{OWN}keys-changed", {"format": "opaque", "id": stand_in.issuer})
        await until(lambda: scopegate.state.events)
        for _ in range(3):
            await scopegate.check(token)
            assert await refused(scopegate, leaked)
        assert scopegate.state.introspections == 2
        assert stand_in.count("/.well-known/jwks.json") == 2, "not for each request"


@pytest.mark.parametrize("status", [0, 503, 404])
async def test_without_keys_a_jwt_cant_be_judged(stand_in: StandIn, status: int) -> None:
    stand_in.statuses["/.well-known/jwks.json"] = status
    async with following(stand_in) as scopegate:
        with pytest.raises(Unavailable):
            await scopegate.check(stand_in.token())
