"""POST /token, by the contract."""

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from unittest.mock import ANY

import httpx2
import pytest
from sqlalchemy import select, update

from app.api.forms import MAX_ESCAPES
from app.identity.models import KnownNetwork, Session, User
from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.answers import assert_not_stored, error_of
from tests.support.factories import OPERATOR, PASSWORD, Someone, login, make_user

pytestmark = pytest.mark.every_token_kind

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
async def alice(runtime: Runtime) -> Someone:
    return await make_user(runtime, "read:items", "write:items", username="Alice")


async def post(client: httpx2.AsyncClient, body: str | bytes, **headers: str) -> httpx2.Response:
    sent = {"Content-Type": FORM, **{k.replace("_", "-"): v for k, v in headers.items()}}
    return await client.post("/token", content=body, headers=sent)


async def test_answer_has_the_fields_of_rfc_6749(
    client: httpx2.AsyncClient, alice: Someone
) -> None:
    answer = await login(client, alice, scope="read:items")
    assert answer.status_code == 200
    assert answer.json() == {
        "access_token": ANY,
        "token_type": "bearer",
        "expires_in": 900,
        "scope": "read:items",
        "refresh_token": ANY,
    }
    assert_not_stored(answer)


async def test_a_login_is_remembered_with_where_it_came_from(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    assert (await login(client, alice)).status_code == 200
    async with runtime.sessions() as db:
        known = (await db.scalars(select(KnownNetwork))).one()
        opened = (await db.scalars(select(Session))).one()
    assert (known.user_id, known.network) == (alice.id, "127.0.0.1")
    assert (opened.user_id, opened.address) == (alice.id, "127.0.0.1")


async def test_tutorials_call_without_grant_type_works(
    client: httpx2.AsyncClient, alice: Someone
) -> None:
    assert (await post(client, f"username=Alice&password={PASSWORD}")).status_code == 200


@pytest.mark.parametrize("spelling", ["alice", "ALICE", "Ａlice"])
async def test_usernames_are_compared_without_case_and_by_nfkc(
    client: httpx2.AsyncClient, alice: Someone, spelling: str
) -> None:
    answer = await client.post("/token", data={"username": spelling, "password": PASSWORD})
    assert answer.status_code == 200


async def test_every_bad_credential_gets_the_same_bytes(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    disabled = await make_user(runtime)
    service = await make_user(runtime)
    async with runtime.work(OPERATOR) as work:
        await work.db.execute(
            update(User).where(User.id == disabled.id).values(disabled_at=runtime.now())
        )
        await work.db.execute(update(User).where(User.id == service.id).values(kind="service"))
    answers = [
        await client.post("/token", data={"username": name, "password": password})
        for name, password in [
            ("nobody", PASSWORD),
            ("Alice", "wrong"),
            ("Alice", "w" * 16_000),
            ("Alice", "nul\0nul"),
            ("nul\0name", PASSWORD),
            (disabled.username, PASSWORD),
            (service.username, PASSWORD),
        ]
    ]
    assert {error_of(answer) for answer in answers} == {(400, "invalid_grant")}
    assert len({answer.content for answer in answers}) == 1


@pytest.mark.parametrize(
    "body",
    [
        "",
        "grant_type=password",
        "username=Alice",
        f"username=Alice&password={PASSWORD}&username=Bob",
        f"username=Alice&password={PASSWORD}&scope=a&scope=b",
        "grant_type=password&grant_type=password&username=a&password=b",
        "username=Alice&password=%FF%FE",
        "username=Alice&password=%zz",
        "username=Alice&password=%4",
        "username=Alice&password=é",
        "grant_type=&username=&password=x",
        f"username=Alice&password={PASSWORD}&refresh_token=a&refresh_token=b",
        "&".join(f"p{i}=x" for i in range(2_000)),
    ],
)
async def test_broken_forms_are_invalid_request(
    client: httpx2.AsyncClient, alice: Someone, body: str
) -> None:
    assert error_of(await post(client, body.encode())) == (400, "invalid_request")


@pytest.mark.parametrize(
    "media_type", ["application/json", "multipart/form-data; boundary=x", "text/plain", ""]
)
async def test_other_media_types_are_invalid_request(
    client: httpx2.AsyncClient, alice: Someone, media_type: str
) -> None:
    answer = await post(client, f"username=Alice&password={PASSWORD}", Content_Type=media_type)
    assert error_of(answer) == (400, "invalid_request")


async def test_credentials_in_the_query_are_not_read(
    client: httpx2.AsyncClient, alice: Someone
) -> None:
    answer = await client.post(
        f"/token?username=Alice&password={PASSWORD}", headers={"Content-Type": FORM}
    )
    assert error_of(answer) == (400, "invalid_request")


async def test_unknown_parameters_are_ignored(client: httpx2.AsyncClient, alice: Someone) -> None:
    body = f"username=Alice&password={PASSWORD}&audience=x&audience=y"
    assert (await post(client, body)).status_code == 200


@pytest.mark.parametrize("grant_type", ["implicit", "nonsense", "PASSWORD"])
async def test_unknown_grants_are_unsupported(
    client: httpx2.AsyncClient, alice: Someone, grant_type: str
) -> None:
    answer = await login(client, alice, grant_type=grant_type)
    assert error_of(answer) == (400, "unsupported_grant_type")


async def test_client_id_without_a_secret_counts_as_no_client(
    client: httpx2.AsyncClient, alice: Someone
) -> None:
    body = f"username=Alice&password={PASSWORD}"
    assert (await post(client, f"{body}&client_id=app&client_secret=")).status_code == 200
    swagger_ui = await post(client, body, Authorization="Basic Og==")
    assert swagger_ui.status_code == 200
    named = base64.b64encode(b"name:").decode()
    assert (await post(client, body, Authorization=f"Basic {named}")).status_code == 200


@pytest.mark.parametrize(
    "basic",
    ["bmFtZTpzZWNyZXQ=", "!!!", "bm9jb2xvbg==", "/////w==", "JTp4", "eDpl" + "eHh4" * 1024],
    ids=lambda basic: basic[:12],
)
async def test_client_secrets_that_are_wrong_are_invalid_client(
    client: httpx2.AsyncClient, alice: Someone, basic: str
) -> None:
    body = f"username=Alice&password={PASSWORD}"
    answer = await post(client, body, Authorization=f"Basic {basic}")
    assert error_of(answer) == (401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith("Basic ")
    answer = await post(client, f"{body}&client_id=name&client_secret=wrong")
    assert error_of(answer) == (401, "invalid_client")


async def test_two_kinds_of_client_authentication_are_invalid_request(
    client: httpx2.AsyncClient, alice: Someone
) -> None:
    body = f"username=Alice&password={PASSWORD}"
    basic = {"Authorization": "Basic bmFtZTpzZWNyZXQ="}
    for more in ("&client_id=name&client_secret=secret", "&client_id=other"):
        assert error_of(await post(client, body + more, **basic)) == (400, "invalid_request")
    assert error_of(await post(client, f"{body}&client_secret=x")) == (400, "invalid_request")
    twice = [("Content-Type", FORM), ("Authorization", "Basic Og=="), ("Authorization", "Basic x")]
    answer = await client.post("/token", content=body, headers=twice)
    assert error_of(answer) == (400, "invalid_request")


async def test_too_large_a_body_is_refused_in_oauths_words(client: httpx2.AsyncClient) -> None:
    answer = await post(client, b"username=" + b"x" * 1_000_000)
    assert error_of(answer) == (413, "invalid_request")


async def test_a_form_over_16_kib_is_refused_whatever_a_body_may_be(runtime: Runtime) -> None:
    large = replace(runtime, settings=runtime.settings.model_copy(update={"max_body_bytes": 10**9}))
    async with client_of(large) as client:

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(17):
                yield b"x" * 1024
            raise AssertionError("more was read than a form may have")

        for path in ("/token", "/revoke", "/introspect"):
            for body in (b"token=" + b"x" * (16 * 1024 - 5), b"&" * 20_000, endless()):
                answer = await client.post(path, content=body, headers={"Content-Type": FORM})
                assert error_of(answer) == (413, "invalid_request")
            fits = b"token=" + b"x" * (16 * 1024 - 6)
            answer = await client.post(path, content=fits, headers={"Content-Type": FORM})
            assert answer.status_code in {200, 400, 401}


async def test_a_form_has_so_many_percent_escapes_and_no_more(client: httpx2.AsyncClient) -> None:
    for number, code in ((MAX_ESCAPES, "unsupported_grant_type"), (4096, "invalid_request")):
        answer = await post(client, b"grant_type=" + b"%41" * number)
        assert error_of(answer) == (400, code)


async def test_other_methods_are_refused_in_oauths_words(client: httpx2.AsyncClient) -> None:
    assert error_of(await client.get("/token")) == (405, "invalid_request")


@pytest.mark.parametrize("host", ["[", "a]b", "é", "//", "x:99999", ""])
async def test_a_broken_host_header_changes_nothing(client: httpx2.AsyncClient, host: str) -> None:
    headers = [(b"Host", host.encode()), (b"Content-Type", FORM.encode())]
    answer = await client.post("/token", content=b"x=y", headers=headers)
    assert error_of(answer) == (400, "invalid_request")
