"""JWTs that are not ours, or not what they say."""

import hmac
import uuid
from dataclasses import replace
from datetime import UTC, timedelta

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.utils import base64url_encode

from app.runtime import Runtime
from app.tokens.jwt import MAX_TOKEN_BYTES, Claims
from tests.support.factories import assert_invalid_token, bearer, login, make_user, status


async def test_claims_of_another_kind_of_token_are_refused(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    user = await make_user(runtime, "read:items")
    good = (await login(client, user)).json()["access_token"]
    key = runtime.keyring.signing(runtime.now())
    payload = jwt.decode(good, options={"verify_signature": False})
    header = {"kid": key.kid, "typ": "at+jwt"}

    def forge(*, headers: dict[str, object] | None = None, **claims: object) -> str:
        return "Bearer " + jwt.encode(
            {k: v for k, v in {**payload, **claims}.items() if v is not ...},
            key.private,
            algorithm=key.algorithm,
            headers={**header, **(headers or {})},
        )

    sound = await client.get("/users/me", headers={"Authorization": forge()})
    assert sound.status_code == 200
    for token in (
        forge(headers={"typ": "JWT"}),
        forge(headers={"kid": "another"}),
        forge(headers={"crit": ["x"]}),
        forge(iss="https://elsewhere.example"),
        forge(aud="another"),
        forge(exp=...),
        forge(exp=1),
        forge(exp="soon"),
        forge(exp=1e400),
        forge(sub=str(uuid.uuid4())),
        forge(sub="not-a-uuid"),
        forge(scope=["read:items"]),
        forge(scope=...),
        forge(jti=...),
        forge(sid=...),
        forge(sid=str(uuid.uuid4()), iat=payload["iat"] - 60),
        forge(client_id=7),
    ):
        await assert_invalid_token(client, token)


async def test_what_is_read_is_what_was_written_whatever_this_machines_clock_says(
    runtime: Runtime,
) -> None:
    """Issued tomorrow, not good before 2242 or long expired: times are the service's to look at."""
    tokens, key = runtime.issuer.jwt, runtime.keyring.signing(runtime.now())
    tomorrow = key.signs_from.replace(microsecond=0) + timedelta(days=1)
    claims = Claims(
        subject=uuid.uuid4(),
        session_id=uuid.uuid4(),
        client_id="worker",
        scopes=frozenset({"read:items", "write:items"}),
        issued_at=tomorrow,
        expires_at=tomorrow + timedelta(seconds=1),
        token_id=uuid.uuid4(),
    )
    token = tokens.encode(claims)
    found, _ = await tokens.decode(token, now=tomorrow)
    assert found == replace(claims, key_id=key.kid)
    assert found.issued_at.tzinfo == found.expires_at.tzinfo == UTC
    payload = jwt.decode(token, options={"verify_signature": False, "verify_iat": False})
    headers = {"kid": key.kid, "typ": "at+jwt"}
    for times in ({"nbf": 2**33}, {"exp": 1}):
        token = jwt.encode(
            {**payload, **times}, key.private, algorithm=key.algorithm, headers=headers
        )
        assert await tokens.decode(token, now=tomorrow)


async def test_a_token_has_one_spelling(client: httpx2.AsyncClient, runtime: Runtime) -> None:
    token = (await login(client, await make_user(runtime))).json()["access_token"]
    header, payload, signature = token.split(".")
    assert await status(client, {"Authorization": f"Bearer {token}"}) == 200
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(signature[-1])
    # An ES256 signature's last character has four bits that mean nothing.
    others = [alphabet[last ^ bits] for bits in range(1, 16)]
    other_alphabet = signature.translate(str.maketrans("-_", "+/"))
    for other in (
        *(f"{header}.{payload}.{signature[:-1]}{character}" for character in others),
        f"{token}=",
        f"{token}==",
        f"{header}=.{payload}.{signature}",
        f"{header}.{payload}==.{signature}",
        f"{header}.{payload}.{signature[:40]} {signature[40:]}",
        f"{header}.{payload}.{signature[:40]}!{signature[40:]}",
        f"{header} .{payload}.{signature}",
        f"{token}.",
        f"{header}..{payload}.{signature}",
        *([f"{header}.{payload}.{other_alphabet}"] if other_alphabet != signature else []),
    ):
        await assert_invalid_token(client, f"Bearer {other}")


@pytest.mark.parametrize("part", ["[", "1e1,", '{"a":', "\\u0041"])
async def test_a_token_larger_than_any_of_ours_is_no_token(
    client: httpx2.AsyncClient, runtime: Runtime, part: str
) -> None:
    for size in (5_000, 30_000):
        header = base64url_encode((part * (size // len(part))).encode()).decode()
        await assert_invalid_token(client, f"Bearer {header}.e30.AAAA")
    token = (await login(client, await make_user(runtime))).json()["access_token"]
    await assert_invalid_token(client, f"Bearer {token}" + "A" * MAX_TOKEN_BYTES)


async def test_the_largest_token_that_is_issued_is_read(runtime: Runtime) -> None:
    tokens, key = runtime.issuer.jwt, runtime.keyring.signing(runtime.now())
    now = key.signs_from.replace(microsecond=0) + timedelta(days=1)
    claims = Claims(
        subject=uuid.uuid4(),
        session_id=uuid.uuid4(),
        client_id="worker",
        scopes=frozenset(),
        issued_at=now,
        expires_at=now + timedelta(minutes=1),
        token_id=uuid.uuid4(),
    )
    names = (frozenset({"x" * number}) for number in range(MAX_TOKEN_BYTES))
    every = (replace(claims, scopes=each) for each in names)
    largest = next(each for each in every if len(tokens.encode(each)) == MAX_TOKEN_BYTES)
    found, _ = await tokens.decode(tokens.encode(largest), now=now)
    assert found == replace(largest, key_id=key.kid)


async def test_hmac_with_the_public_key_is_refused(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    user = await make_user(runtime)
    good = (await login(client, user)).json()["access_token"]
    payload = jwt.decode(good, options={"verify_signature": False})
    key = runtime.keyring.signing(runtime.now())
    headers = {"kid": key.kid, "typ": "at+jwt"}
    unsigned = jwt.encode(payload, "", algorithm="none", headers=headers)
    await assert_invalid_token(client, f"Bearer {unsigned}")
    public = key.verifying.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signing_input = (
        jwt.encode(payload, "x" * 32, algorithm="HS256", headers=headers)
        .rpartition(".")[0]
        .encode()
    )
    signature = base64url_encode(hmac.digest(public, signing_input, "sha256"))
    await assert_invalid_token(client, b"Bearer " + signing_input + b"." + signature)


@pytest.mark.long
async def test_every_single_bit_change_of_an_access_token_is_refused(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    token = (await bearer(client, await make_user(runtime)))["Authorization"].encode()
    for position in range(len(b"Bearer "), len(token)):
        for bit in range(8):
            forged = bytearray(token)
            forged[position] ^= 1 << bit
            if chr(forged[position]) in "\r\n\0":
                continue
            await assert_invalid_token(client, bytes(forged))
