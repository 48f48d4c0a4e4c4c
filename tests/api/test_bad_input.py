"""Nothing that a client sends gives a 500: forms, headers and bodies made up by hypothesis."""

from urllib.parse import quote_from_bytes

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.runtime import Runtime
from tests.factories import PASSWORD, Someone, make_user

FORM = b"application/x-www-form-urlencoded"
BUDGET = settings(
    max_examples=150,
    deadline=None,
    # One database for all examples is what is wanted: none of them leaves anything behind.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

names = st.sampled_from(
    ["grant_type", "username", "password", "scope", "client_id", "client_secret", "x", ""]
)
values = st.one_of(
    st.sampled_from([b"password", b"Alice", PASSWORD.encode(), b"read:items", b"", b"\0"]),
    st.binary(max_size=40),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
)
escaped = values.map(quote_from_bytes)
parameters = st.tuples(names, st.one_of(escaped, st.sampled_from(["%", "%zz", "a+b", "a=b"])))
forms = st.lists(parameters, max_size=8).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs).encode()
)
bodies = st.one_of(forms, st.binary(max_size=200))
headers = st.one_of(
    st.none(),
    st.binary(max_size=60).map(lambda raw: raw.translate(None, b"\r\n\0")),
    st.binary(max_size=60).map(lambda raw: b"Basic " + raw.translate(None, b"\r\n\0")),
    st.binary(max_size=60).map(lambda raw: b"Bearer " + raw.translate(None, b"\r\n\0")),
)


@pytest.fixture
async def alice(runtime: Runtime) -> Someone:
    return await make_user(runtime, "read:items", username="Alice")


@BUDGET
@given(body=bodies, authorization=headers)
async def test_any_form_gets_an_oauth_answer(
    client: httpx2.AsyncClient, alice: Someone, body: bytes, authorization: bytes | None
) -> None:
    sent = [(b"Content-Type", FORM)]
    if authorization is not None:
        sent.append((b"Authorization", authorization))
    answer = await client.post("/token", content=body, headers=sent)
    assert answer.status_code in {200, 400, 401}, answer.text
    if answer.status_code != 200:
        assert set(answer.json()) == {"error", "error_description"}
    assert answer.headers["cache-control"] == "no-store"


@BUDGET
@given(authorization=headers)
async def test_any_authorization_header_gets_a_challenge(
    client: httpx2.AsyncClient, authorization: bytes | None
) -> None:
    sent = [] if authorization is None else [(b"Authorization", authorization)]
    answer = await client.get("/users/me", headers=sent)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer ")
