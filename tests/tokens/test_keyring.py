"""Signing keys: made once, kept encrypted, one algorithm each."""

import asyncio
import uuid
from datetime import datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jwt as jose
from joserfc.jwk import KeySet
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from app.db.changes import EVERYTHING, Change
from app.errors import ConfigurationError
from app.runtime import Runtime
from app.settings import Algorithm
from app.tokens.keyring import Key, Keyring, NoSigningKey
from app.tokens.keys import UnreadableKey, decrypt_private_key, key_cipher, rewrap_keys, rotate_key
from app.tokens.models import ACCESS_TOKENS, ID_TOKENS, SigningKey
from tests.conftest import SECRET, client_of, settings_for
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, login, make_user
from tests.support.keys import rotate
from tests.support.statements import statements_of

ALGORITHMS: list[Algorithm] = ["ES256", "RS256", "EdDSA", "HS256"]
OTHER_SECRET = "another-secret-of-the-tests-9876543210"


async def keys(runtime: Runtime) -> list[SigningKey]:
    async with runtime.sessions() as db:
        return list(await db.scalars(select(SigningKey)))


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
        (key,) = jwks["keys"]
        assert not {"d", "k", "p", "q"} & set(key)
        kid = jwt.get_unverified_header(token)["kid"]
        assert (key["kid"], key["alg"], key["use"]) == (kid, algorithm, "sig")
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
        keys = (await client.get("/.well-known/jwks.json")).json()["keys"]
        assert {each["alg"] for each in keys} == {"ES256", "EdDSA", "RS256"}
        clock.move(seconds=300)
        assert runtime.keyring.signing(clock()).algorithm == "EdDSA"
        answer = await client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        clock.move(seconds=905)
        keys = (await client.get("/.well-known/jwks.json")).json()["keys"]
        assert {each["alg"] for each in keys} == {"EdDSA", "RS256"}


def test_which_key_signs_is_told_by_the_moment_and_by_the_algorithm_that_is_chosen(
    runtime: Runtime,
) -> None:
    now, moment = runtime.now(), timedelta(microseconds=1)
    keyring = Keyring(runtime.sessions, runtime.cipher, runtime.feed, algorithm="EdDSA")

    def key(kid: str, algorithm: str, signs_from: datetime, retires_at: datetime | None) -> Key:
        return Key(kid, algorithm, ACCESS_TOKENS, b"", "", signs_from, retires_at)

    keyring._keys = {
        each.kid: each
        for each in (
            key("chosen", "EdDSA", now, None),
            key("newer", "ES256", now + moment, None),
            key("ending", "EdDSA", now + moment, now + 3 * moment),
            key("newest", "EdDSA", now + 2 * moment, None),
        )
    }
    moments = [now + number * moment for number in range(3)]
    assert [keyring.signing(each).kid for each in moments] == ["chosen", "chosen", "newest"]
    with pytest.raises(NoSigningKey):
        keyring.signing(now - moment)
    ending = keyring._keys["ending"]
    assert [ending.is_retired(now + number * moment) for number in (2, 3)] == [False, True]
    assert not keyring._keys["chosen"].is_retired(now)


async def test_the_keys_are_read_again_when_a_change_of_them_is_heard_and_opened_only_once(
    own_runtime: Runtime,
) -> None:
    keyring = own_runtime.keyring
    await keyring.refresh()

    async def reads() -> int:
        with statements_of(own_runtime) as statements:
            await keyring.refresh()
        return len(statements)

    private = keyring.signing(own_runtime.now()).private
    for _ in range(2):
        for change in (Change("keys"), EVERYTHING):
            keyring.on_change(change)
            assert [await reads(), await reads()] == [1, 0]
        for change in (Change("scopes"), Change("user", uuid.uuid4())):
            keyring.on_change(change)
            assert await reads() == 0
    assert keyring.signing(own_runtime.now()).private is private
    async with own_runtime.work(OPERATOR) as work:
        await rewrap_keys(work, own_runtime.cipher)
    await keyring.load()
    assert keyring.signing(own_runtime.now()).private is not private, "it is written otherwise"


async def test_the_public_keys_are_told_when_the_database_tells_nothing(
    own_runtime: Runtime,
) -> None:
    async with own_runtime.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE signing_keys RENAME TO gone"))
    keyring, now = own_runtime.keyring, own_runtime.now()
    keyring.on_change(EVERYTHING)
    with pytest.raises(DBAPIError):
        await keyring.refresh()
    assert len((await keyring.jwks(now))["keys"]) == 1
    nobody_listens = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none")
    keyring._sessions = async_sessionmaker(nobody_listens)
    with pytest.raises(OSError, match="Connect call failed"):
        await keyring.refresh()
    assert len((await keyring.jwks(now))["keys"]) == 1
    await nobody_listens.dispose()


async def test_a_key_of_each_algorithm_is_of_its_kind_and_size(runtime: Runtime) -> None:
    made = {}
    async with runtime.work(OPERATOR) as work:
        for algorithm in ALGORITHMS:
            row = await rotate_key(
                work,
                runtime.cipher,
                algorithm=algorithm,
                publication=timedelta(),
                overlap=timedelta(),
            )
            made[algorithm] = decrypt_private_key(row, runtime.cipher)
    elliptic, rsa_key, edwards, shared = made.values()
    assert isinstance(elliptic, ec.EllipticCurvePrivateKey)
    assert isinstance(elliptic.curve, ec.SECP256R1)
    assert isinstance(rsa_key, rsa.RSAPrivateKey)
    assert rsa_key.key_size == 3072
    assert rsa_key.public_key().public_numbers().e == 65537
    assert isinstance(edwards, ed25519.Ed25519PrivateKey)
    assert isinstance(shared, bytes)
    assert len(shared) == 32


async def test_a_key_for_id_tokens_has_2048_bits_as_their_readers_expect(runtime: Runtime) -> None:
    row = await rotate(runtime, algorithm="RS256", purpose=ID_TOKENS)
    key = decrypt_private_key(row, runtime.cipher)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == 2048


def test_private_keys_outlive_an_upgrade() -> None:
    """Those in a database were encrypted so: who does it otherwise can't read them."""
    stored = (
        b"gAAAAABrSdIAGXqmgubz6J1p28LbrLCLwteTUWdyO4VAU8O-jAGJknpjNfdG"
        b"32FiCFf83m73WNOPugkUQeQNe2vDYa-Z9Wazr6UUisQ2PfNcX7T70LXof0k="
    )
    assert key_cipher([SECRET]).decrypt(stored) == b"a key of the tests"


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
    async with own_runtime.work(OPERATOR) as work:
        (row,) = await work.db.scalars(select(SigningKey))
        row.encrypted_private_key = cipher.encrypt(foreign).decode()
        await work.db.flush()
        with pytest.raises(UnreadableKey):
            decrypt_private_key(row, cipher)
