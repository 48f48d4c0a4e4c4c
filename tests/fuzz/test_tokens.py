"""Tokens, damaged and forged: none passes that says anything else than one that was issued."""

import base64
import hmac
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import event, given
from hypothesis import strategies as st

from app.runtime import Runtime
from app.tokens.keyring import Key
from app.tokens.refresh import MAC_BYTES, PREFIX
from tests.conftest import SECRET, client_of
from tests.fuzz.answers import assert_challenge, assert_oauth_answer
from tests.fuzz.budget import budget
from tests.fuzz.damage import Damage, damaged, damages, sendable
from tests.support.factories import Someone, bearer, login, make_user

pytestmark = pytest.mark.long
GRANTED = {"read:items", "read:users"}
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Issued:
    """What was issued to one user, and the key that signs."""

    user: Someone
    jwt: str
    opaque: str
    refresh: str
    asking: dict[str, str]
    key: Key

    @property
    def header(self) -> dict[str, Any]:
        return jwt.get_unverified_header(self.jwt)

    @property
    def claims(self) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(self.jwt, options={"verify_signature": False})
        return claims


@pytest.fixture
async def issued(own_runtime: Runtime, own_client: httpx2.AsyncClient) -> AsyncIterator[Issued]:
    """Tokens of every kind, which are as good at the end as they were at the beginning."""
    user = await make_user(own_runtime, *GRANTED)
    pair = (await login(own_client, user)).json()
    settings = own_runtime.settings.model_copy(update={"access_token_format": "opaque"})
    opaque = replace(
        own_runtime, settings=settings, issuer=replace(own_runtime.issuer, opaque=True)
    )
    async with client_of(opaque) as client:
        other = (await login(client, user)).json()
    issued = Issued(
        user,
        jwt=pair["access_token"],
        opaque=other["access_token"],
        refresh=pair["refresh_token"],
        asking=await bearer(own_client, await make_user(own_runtime, "introspect")),
        key=own_runtime.keyring.signing(own_runtime.now()),
    )
    yield issued
    for token in (issued.jwt, issued.opaque):
        headers = {"Authorization": f"Bearer {token}"}
        assert (await own_client.get("/users/me", headers=headers)).status_code == 200
    form = {"grant_type": "refresh_token", "refresh_token": issued.refresh}
    assert (await own_client.post("/token", data=form)).status_code == 200


def said(token: bytes) -> list[bytes]:
    """What a JWT says, whatever way its signature and its Base64 are written."""
    try:
        return [base64.urlsafe_b64decode(part + b"==") for part in token.split(b".")[:2]]
    except ValueError:
        return []


@budget(500)
@given(
    kind=st.sampled_from(["jwt", "jwt", "opaque", "refresh"]),
    harm=damages,
    line=st.booleans(),
)
async def test_no_damaged_token_passes_a_protected_route(
    anybody: httpx2.AsyncClient, issued: Issued, kind: str, harm: list[Damage], line: bool
) -> None:
    token: bytes = getattr(issued, kind).encode()
    sent = damaged(b"Bearer " + token, harm) if line else b"Bearer " + damaged(token, harm)
    answer = await anybody.get("/users/me", headers=[(b"Authorization", sendable(sent))])
    event(f"{kind} {answer.status_code}")
    if answer.status_code != 200:
        assert_challenge(answer)
        return
    assert answer.json()["id"] == str(issued.user.id)
    _, _, taken = sendable(sent).partition(b" ")
    assert kind != "refresh"
    assert taken == token or said(taken) == said(token) != []


@budget(300)
@given(
    kind=st.sampled_from(["jwt", "opaque", "refresh"]),
    harm=damages,
    path=st.sampled_from(["/token", "/introspect", "/revoke"]),
)
async def test_no_damaged_token_is_active_renewed_or_revoked(
    anybody: httpx2.AsyncClient, issued: Issued, kind: str, harm: list[Damage], path: str
) -> None:
    good: bytes = getattr(issued, kind).encode()
    token = damaged(good, harm)
    if token == good or (kind == "jwt" and said(token) == said(good)):
        return
    answer = await presented(anybody, issued, path, token)
    event(f"{path} {answer.status_code}")
    assert path == "/revoke" or not active(answer)


async def presented(
    client: httpx2.AsyncClient, issued: Issued, path: str, token: bytes
) -> httpx2.Response:
    """What an endpoint of OAuth's answers to this token: a good answer, in its form."""
    value = "".join(f"%{byte:02X}" for byte in token.decode("latin-1").encode())
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    if path == "/introspect":
        headers |= issued.asking
    body = f"grant_type=refresh_token&refresh_token={value}&token={value}"
    answer = await client.post(path, content=body, headers=headers)
    assert_oauth_answer(answer)
    return answer


def active(answer: httpx2.Response) -> bool:
    """Whether a token got another one, or was found to be active."""
    return answer.status_code == 200 and answer.json() != {"active": False}


odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**30, -1, 0, 2**63, 1e308, float("nan"), float("inf"), 9999999999]),
    st.text(max_size=20),
    st.text(st.characters(categories=["Cs", "Cc", "L"]), max_size=5),
    st.sampled_from(
        ["admin", "read:items admin", "read:items", "", " ", "none", "HS256", "at+jwt"]
    ),
    st.sampled_from(["https://elsewhere.example", "../../dev/null", "' OR 1=1 --", "JWT"]),
    st.uuids().map(str),
    st.lists(st.sampled_from(["admin", "read:items"]), max_size=3),
    st.dictionaries(st.sampled_from(["admin", "kid"]), st.integers(), max_size=2),
    st.recursive(st.just([]), lambda inner: st.lists(inner, max_size=2), max_leaves=4),
)
CLIMBING = ["admin", "read:items admin", "write:items", "read:items", "read:items\tadmin"]
LEFT_OUT = "left out"
claims = st.sampled_from(
    ["iss", "aud", "sub", "client_id", "iat", "exp", "jti", "sid", "scope", "nbf", "cnf", "scp"]
)
fields = st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "jku", "x5c", "cty", "b64", "zip"])
SIGNERS = ["our key", "our key", "our key", "the old signature", "none", "nobody's key"]
SIGNERS += ["HMAC by PEM", "HMAC by DER", "HMAC by kid", "HMAC by nothing"]
SHAPES = ["plain"] * 12 + ["four parts", "two parts", "padded", "JSON", "nested", "deep", "huge"]


@budget(900)
@given(
    header=st.dictionaries(fields, st.one_of(st.just(LEFT_OUT), odd), max_size=2),
    payload=st.one_of(
        st.dictionaries(claims, st.one_of(st.just(LEFT_OUT), odd), max_size=2),
        st.fixed_dictionaries({"scope": st.sampled_from(CLIMBING)}),
    ),
    signer=st.sampled_from(SIGNERS),
    shape=st.sampled_from(SHAPES),
)
async def test_no_forged_token_passes_with_other_claims(
    anybody: httpx2.AsyncClient,
    issued: Issued,
    header: dict[str, Any],
    payload: dict[str, Any],
    signer: str,
    shape: str,
) -> None:
    """Signed by our key, odd claims may pass as the same user in the same session, no further."""
    algorithm = {"none": "none", "HMAC": "HS256"}.get(signer.split()[0], "ES256")
    headers = _edited({**issued.header, "alg": algorithm}, header)
    claims = _edited(issued.claims, payload)
    token = _shaped(_signed(headers, claims, issued, signer, shape), issued, shape)
    answer = await anybody.get("/users/me", headers=[(b"Authorization", b"Bearer " + token)])
    event(f"{signer}, {shape}: {answer.status_code}")
    untouched = said(token) == said(issued.jwt.encode())
    if answer.status_code == 503:
        # New and signed by us: as far as is known here, another process has opened that session.
        assert signer == "our key"
        assert claims["sid"] != issued.claims["sid"]
        return
    if answer.status_code != 200:
        assert_challenge(answer)
        assert not (untouched and signer in {"our key", "the old signature"} and shape == "plain")
        return
    assert untouched or signer == "our key"
    me = answer.json()
    assert uuid.UUID(me["id"]) == uuid.UUID(claims["sub"]) == issued.user.id
    assert uuid.UUID(claims["sid"]) == uuid.UUID(issued.claims["sid"])
    assert set(me["scopes"]) == set(claims["scope"].split()) & GRANTED
    assert claims["iss"] == issued.claims["iss"]
    assert headers["alg"] == "ES256"
    assert headers["typ"] == "at+jwt"
    assert headers["kid"] == issued.header["kid"]


@budget(200)
@given(
    session_id=st.one_of(st.none(), st.uuids()),
    generation=st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1)),
    proof=st.binary(min_size=MAC_BYTES, max_size=MAC_BYTES),
    path=st.sampled_from(["/token", "/introspect", "/revoke"]),
)
async def test_no_refresh_token_made_by_the_services_secret_alone_is_good(
    anybody: httpx2.AsyncClient,
    issued: Issued,
    session_id: uuid.UUID | None,
    generation: int,
    proof: bytes,
    path: str,
) -> None:
    """It bears our seal, and lacks the proof by the key in its session's row."""
    session_id = session_id or uuid.UUID(issued.claims["sid"])
    body = session_id.bytes + generation.to_bytes(4, "big") + proof
    seal = hmac.digest(SECRET.encode(), b"scopegate refresh seal\0" + body, "sha256")[:MAC_BYTES]
    token = PREFIX + base64.urlsafe_b64encode(body + seal).decode()
    answer = await presented(anybody, issued, path, token.encode())
    assert path == "/revoke" or not active(answer)


def _edited(original: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = {**original, **changes}
    return {name: value for name, value in merged.items() if value != LEFT_OUT}


def _signed(
    header: dict[str, Any], claims: dict[str, Any], issued: Issued, signer: str, shape: str
) -> bytes:
    body = json.dumps(claims, separators=(",", ":")).encode()
    if shape == "deep":
        body = body[:-1] + b',"x":' + b"[" * 5000 + b"]" * 5000 + b"}"
    if shape == "huge":
        body = body[:-1] + b',"exp":' + b"9" * 5000 + b"}"
    signed = _base64(json.dumps(header, separators=(",", ":")).encode()) + b"." + _base64(body)
    return signed + b"." + _base64(_signature(signed, issued, signer))


def _signature(signed: bytes, issued: Issued, signer: str) -> bytes:
    public = issued.key.verifying
    by_ec = jwt.get_algorithm_by_name("ES256")
    match signer:
        case "our key":
            return by_ec.sign(signed, issued.key.private)
        case "nobody's key":
            return by_ec.sign(signed, OTHER_KEY)
        case "the old signature":
            return base64.urlsafe_b64decode(issued.jwt.rpartition(".")[2] + "==")
        case "none":
            return b""
        case "HMAC by PEM":
            secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        case "HMAC by DER":
            secret = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        case "HMAC by kid":
            secret = issued.key.kid.encode()
        case _:
            secret = b""
    return hmac.digest(secret, signed, "sha256")


def _shaped(token: bytes, issued: Issued, shape: str) -> bytes:
    header, payload, signature = token.split(b".")
    match shape:
        case "four parts":
            return token + b"." + signature
        case "two parts":
            return header + b"." + payload
        case "padded":
            return b".".join(
                part + b"=" * (-len(part) % 4) for part in (header, payload, signature)
            )
        case "JSON":
            parts = {"protected": header, "payload": payload, "signature": signature}
            return json.dumps({name: part.decode() for name, part in parts.items()}).encode()
        case "nested":
            outer = header + b"." + _base64(token)
            return outer + b"." + _base64(_signature(outer, issued, "our key"))
    return token


def _base64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
