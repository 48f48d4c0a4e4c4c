"""Signing keys: made once, kept encrypted, one algorithm each."""

import asyncio

import jwt
import pytest
from joserfc import jwt as jose
from joserfc.jwk import KeySet
from sqlalchemy import select

from app.errors import ConfigurationError
from app.runtime import Runtime
from app.settings import Algorithm
from app.tokens.keys import UnreadableKey, decrypt_private_key, key_cipher
from app.tokens.models import SigningKey
from tests.clock import MovableClock
from tests.conftest import SECRET, client_of, settings_for
from tests.factories import login, make_user

ALGORITHMS: list[Algorithm] = ["ES256", "RS256", "EdDSA", "HS256"]
OTHER_SECRET = "another-secret-of-the-tests-9876543210"


async def keys(runtime: Runtime) -> list[SigningKey]:
    async with runtime.sessions() as session:
        return list(await session.scalars(select(SigningKey)))


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated:joserfc.errors.SecurityWarning")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_tokens_of_every_algorithm_work_and_joserfc_verifies_them(
    own_database_url: str, algorithm: Algorithm
) -> None:
    settings = settings_for(own_database_url, signing_algorithm=algorithm)
    async with Runtime.open(settings) as runtime, client_of(runtime) as client:
        user = await make_user(runtime, "read:items")
        token = (await login(client, user)).json()["access_token"]
        assert jwt.get_unverified_header(token) == {
            "alg": algorithm,
            "kid": runtime.keyring.signing(runtime.now()).kid,
            "typ": "at+jwt",
        }
        headers = {"Authorization": f"Bearer {token}"}
        assert (await client.get("/items", headers=headers)).status_code == 200
        jwks = (await client.get("/.well-known/jwks.json")).json()
        if algorithm == "HS256":
            assert jwks == {"keys": []}, "a shared secret is not published"
            return
        assert not {"d", "k", "p", "q"} & set(jwks["keys"][0])
        decoded = jose.decode(token, KeySet.import_key_set(jwks), algorithms=[algorithm])
        assert decoded.claims["iss"] == settings.token_issuer
        assert decoded.claims["aud"] == settings.token_audience
        assert decoded.claims["sub"] == str(user.id)
        assert decoded.claims["client_id"] == "scopegate"
        assert decoded.claims["scope"] == "read:items"
        assert decoded.claims["exp"] - decoded.claims["iat"] == 900


async def test_replicas_that_start_together_agree_on_one_key(own_database_url: str) -> None:
    async def kid() -> str:
        async with Runtime.open(settings_for(own_database_url)) as runtime:
            return runtime.keyring.signing(runtime.now()).kid

    assert len(set(await asyncio.gather(*(kid() for _ in range(4))))) == 1


async def test_another_algorithm_is_a_rotation_and_old_tokens_go_on(
    own_database_url: str, clock: MovableClock
) -> None:
    settings = settings_for(own_database_url)
    async with Runtime.open(settings, now=clock) as runtime, client_of(runtime) as client:
        user = await make_user(runtime)
        token = (await login(client, user)).json()["access_token"]
    settings = settings_for(own_database_url, signing_algorithm="EdDSA")
    async with Runtime.open(settings, now=clock) as runtime, client_of(runtime) as client:
        assert len((await client.get("/.well-known/jwks.json")).json()["keys"]) == 1, "a command"
        await runtime.adopt_signing_algorithm()
        assert runtime.keyring.signing(clock()).algorithm == "ES256", "published before it signs"
        assert len((await client.get("/.well-known/jwks.json")).json()["keys"]) == 2
        clock.move(seconds=300)
        assert runtime.keyring.signing(clock()).algorithm == "EdDSA"
        answer = await client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        clock.move(seconds=905)
        assert len((await client.get("/.well-known/jwks.json")).json()["keys"]) == 1


async def test_private_keys_are_kept_encrypted(own_runtime: Runtime) -> None:
    (row,) = await keys(own_runtime)
    stored = row.encrypted_private_key.encode()
    assert b"PRIVATE" not in stored
    assert key_cipher([SECRET]).decrypt(stored)


async def test_another_secret_is_refused_with_what_to_do(own_database_url: str) -> None:
    async with Runtime.open(settings_for(own_database_url)):
        pass
    with pytest.raises(ConfigurationError, match="SCOPEGATE_SECRET_KEYS"):
        async with Runtime.open(settings_for(own_database_url, secret_keys=OTHER_SECRET)):
            pass
    both = settings_for(own_database_url, secret_keys=f"{OTHER_SECRET},{SECRET}")
    async with Runtime.open(both) as runtime:
        assert runtime.keyring.signing(runtime.now())


async def test_a_key_of_a_foreign_kind_is_refused(own_runtime: Runtime) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import x25519

    foreign = x25519.X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    cipher = key_cipher([SECRET])
    async with own_runtime.unit_of_work() as session:
        (row,) = await session.scalars(select(SigningKey))
        row.encrypted_private_key = cipher.encrypt(foreign).decode()
        await session.flush()
        with pytest.raises(UnreadableKey):
            decrypt_private_key(row, cipher)
