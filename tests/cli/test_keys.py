"""The public keys as PEM, for gateways that read no JWKS."""

import re
from typing import Any

import jwt
import pytest

from app.runtime import Runtime
from app.settings import Settings
from tests.conftest import client_of
from tests.support.commands import Environment, printed, refusal, succeed
from tests.support.factories import login, make_user

BLOCK = r"-----BEGIN PUBLIC KEY-----\n[\w+/=\n]+-----END PUBLIC KEY-----\n"


# The making of an RSA key takes seconds.
@pytest.mark.parametrize(
    "algorithm", ["ES256", "EdDSA", pytest.param("RS256", marks=pytest.mark.long)]
)
async def test_the_public_keys_are_printed_as_pem_the_signing_one_first(
    environment: Environment, algorithm: str
) -> None:
    environment.setenv("SCOPEGATE_SIGNING_ALGORITHM", algorithm)
    kid = (await printed("key", "rotate", "--now"))["kid"]
    await succeed("key", "rotate")
    rows = await printed("key", "list", "--pem")
    assert [without_pem(row) for row in rows] == await printed("key", "list")
    file = await succeed("key", "list", "--pem")
    blocks = re.findall(BLOCK, file)
    assert "".join(blocks) == file, "nothing else, so that it can go into a file"
    assert sorted(blocks) == sorted(row["pem"] for row in rows)
    (signing,) = (row for row in rows if row["state"] == "signs")
    assert (signing["kid"], signing["pem"]) == (kid, blocks[0])
    async with Runtime.open(Settings()) as runtime, client_of(runtime) as client:
        token = (await login(client, await make_user(runtime))).json()["access_token"]
    assert jwt.get_unverified_header(token)["kid"] == kid
    claims = jwt.decode(token, blocks[0], [algorithm], audience="http://127.0.0.1:8000")
    assert claims["iss"] == "http://127.0.0.1:8000"


async def test_a_retired_key_is_not_printed_as_pem(environment: Environment) -> None:
    (old,) = await printed("key", "list", "--pem")
    await succeed("key", "rotate", "--now")
    await succeed("key", "retire", old["kid"], "--yes")
    assert old["pem"] not in await succeed("key", "list", "--pem")
    retired, signing = await printed("key", "list", "--pem")
    assert (retired["pem"], retired["state"]) == (None, "retired")
    assert signing["pem"]


async def test_a_shared_secret_is_never_printed(environment: Environment) -> None:
    (old,) = await printed("key", "list")
    environment.setenv("SCOPEGATE_SIGNING_ALGORITHM", "HS256")
    await succeed("key", "rotate", "--now")
    await succeed("key", "retire", old["kid"], "--yes")
    assert [row["pem"] for row in await printed("key", "list", "--pem")] == [None, None]
    assert "HS256 signs with a secret" in await refusal("key", "list", "--pem")


def without_pem(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "pem"}
