"""OAuth's forms, made up and broken: an answer in OAuth's form, and no token for nothing."""

import base64
from typing import Any
from urllib.parse import parse_qs, quote_from_bytes

import httpx2
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from app.access.grants import grant
from app.identity.account_writes import create_service
from app.identity.names import username_key
from app.runtime import Runtime
from tests.fuzz.answers import assert_oauth_answer
from tests.fuzz.budget import budget
from tests.fuzz.damage import Damage, damaged, damages, sendable
from tests.support.factories import OPERATOR, PASSWORD, login, make_user

pytestmark = pytest.mark.long
Presented = dict[str, str]

FORM = b"application/x-www-form-urlencoded"
CONTENT_TYPES = [
    *(FORM, FORM.upper(), FORM + b"; charset=utf-8", FORM + b";charset=UTF-8"),
    *(FORM + b"; charset=utf-16", FORM + b"; boundary=x", FORM + b", " + FORM, FORM + b"\xff", b""),
    *(b"application/json", b"multipart/form-data; boundary=x", b"text/plain", b"*/*", b";"),
]
PARAMETERS = ["grant_type", "username", "password", "refresh_token", "scope", "client_id"]
PARAMETERS += ["client_secret", "token", "token_type_hint"]
BROKEN = ["%", "%zz", "%4", "%u0041", "%00", "%ED%A0%80", "%C0%80", "%FF"]
BROKEN += ["a+b", "a=b", ";", "%26x"]
GRANT_TYPES = ["password", "refresh_token", "client_credentials", "implicit", "Password", ""]

values = st.one_of(
    st.sampled_from(BROKEN),
    st.binary(max_size=30).map(quote_from_bytes),
    st.text(max_size=30).map(lambda text: quote_from_bytes(text.encode("utf-8", "surrogatepass"))),
    st.sampled_from(["read:items", "admin", "read:items read:items", "x" * 5000]).map(
        lambda text: quote_from_bytes(text.encode())
    ),
)


@pytest.fixture
async def good(own_runtime: Runtime, own_client: httpx2.AsyncClient) -> Presented:
    """What a client could present rightly, by what it is called below."""
    user = await make_user(own_runtime, "read:items", username="Alice")
    async with own_runtime.work(OPERATOR) as work:
        service, secret = await create_service(work, username="robot")
        for scope in ("introspect", "read:items"):
            await grant(work, service.id, scope)
    pair = (await login(own_client, user)).json()
    return {
        "token_type_hint": "access_token",
        "username": user.username,
        "password": PASSWORD,
        "client_id": "robot",
        "client_secret": secret.value,
        "refresh_token": pair["refresh_token"],
        "token": pair["access_token"],
        "spare": (await login(own_client, user)).json()["refresh_token"],
    }


shapes = st.sampled_from(
    [
        ("/token", ["grant_type", "username", "password", "scope"], "password"),
        ("/token", ["username", "password"], "password"),
        ("/token", ["grant_type", "refresh_token", "scope"], "refresh_token"),
        ("/token", ["grant_type", "refresh_token"], "refresh_token"),
        ("/token", ["grant_type", "client_id", "client_secret"], "client_credentials"),
        ("/token", ["grant_type", "client_id", "client_secret", "scope"], "client_credentials"),
        ("/introspect", ["token", "client_id", "client_secret"], ""),
        ("/introspect", ["token"], ""),
        ("/revoke", ["token", "token_type_hint"], ""),
        ("/revoke", ["token", "client_id", "client_secret"], ""),
    ]
)
basics = st.one_of(
    st.sampled_from(["", "none", "right", "colon", "public", "escaped", "bearer"]),
    st.binary(max_size=40),
)


def authorization(kind: str | bytes, good: Presented) -> bytes | None:
    """An Authorization header of this kind."""
    robot = f"{good['client_id']}:{good['client_secret']}".encode()
    match kind:
        case "":
            return None
        case "none":
            return b""
        case "right":
            return b"Basic " + base64.b64encode(robot)
        case "colon":
            return b"Basic Og=="
        case "public":
            return b"basic " + base64.b64encode(b"robot:")
        case "escaped":
            return b"Basic " + base64.b64encode(b"%72obot:%zz")
        case "bearer":
            return b"Bearer " + good["token"].encode()
        case bytes():
            return b"Basic " + base64.b64encode(kind)
    raise AssertionError(kind)


which = st.integers(0, 3)
wrong = st.one_of(
    st.tuples(st.just("left out"), which),
    st.tuples(st.just("repeated"), which),
    st.tuples(st.just("replaced"), which, values),
    st.tuples(st.just("damaged"), which, damages),
    st.tuples(st.just("added"), st.sampled_from([*PARAMETERS, "x", ""]), values),
    st.tuples(st.just("grant type"), st.sampled_from(GRANT_TYPES)),
    st.tuples(st.just("body"), damages),
    st.tuples(st.just("flood"), st.sampled_from([60, 98, 120, 10_000, 70_000])),
    st.tuples(st.just("content type"), st.sampled_from(CONTENT_TYPES), damages),
    st.tuples(st.just("authorization"), basics, damages),
)


@budget(700)
@given(shape=shapes, wrongs=st.lists(wrong, max_size=3))
async def test_any_form_gets_an_oauth_answer_and_no_token_for_nothing(
    anybody: httpx2.AsyncClient,
    good: Presented,
    shape: tuple[str, list[str], str],
    wrongs: list[tuple[Any, ...]],
) -> None:
    path, names, grant_type = shape
    # What is revoked is of a session of its own: the other one lives on.
    token = good["spare" if path == "/revoke" else "token"]
    known = {**good, "grant_type": grant_type, "scope": "read:items", "token": token}
    pairs = [(name, quote_from_bytes(known[name].encode())) for name in names]
    content_type, basic, flood = FORM, None, 0
    harm: list[Damage] = []
    for each in wrongs:
        match each:
            case ("left out", int(at)):
                del pairs[at : at + 1]
            case ("repeated", int(at)):
                pairs += pairs[at : at + 1]
            case ("replaced", int(at), value):
                pairs[at : at + 1] = [(name, value) for name, _ in pairs[at : at + 1]]
            case ("damaged", int(at), done):
                pairs[at : at + 1] = [
                    (name, quote_from_bytes(damaged(known.get(name, "").encode(), done)))
                    for name, _ in pairs[at : at + 1]
                ]
            case ("added", name, value):
                pairs.append((name, value))
            case ("grant type", other):
                pairs = [(key, other if key == "grant_type" else old) for key, old in pairs]
            case ("body", harm):
                pass
            case ("flood", flood):
                pass
            case ("content type", other, done):
                content_type = sendable(damaged(other, done))
            case ("authorization", kind, done):
                header = authorization(kind, good)
                basic = None if header is None else sendable(damaged(header, done))
    body = "&".join(f"{name}={value}" for name, value in pairs).encode()
    body = damaged(body, harm) + b"&y=1" * flood
    headers = [(b"Content-Type", content_type)]
    if basic is not None:
        headers.append((b"Authorization", basic))
    answer = await anybody.post(path, content=body, headers=headers)
    event(f"{path} {answer.status_code}")
    assert_oauth_answer(answer)
    if answer.status_code == 200:
        form = parse_qs(body.decode(), errors="strict", keep_blank_values=True)
        assert_earned(path, form, basic, good)


def assert_earned(
    path: str, form: dict[str, list[str]], basic: bytes | None, good: Presented
) -> None:
    """Whoever got more than a shrug presented what it is given for, once."""
    once = {name: values[0] for name, values in form.items() if name in PARAMETERS}
    assert all(len(form[name]) == 1 for name in once)
    match path, once.get("grant_type") or "password":
        case "/revoke", _:
            return
        case "/token", "password":
            assert username_key(once["username"]) == username_key(good["username"])
            assert once["password"] == good["password"]
        case "/token", "refresh_token":
            assert once["refresh_token"] == good["refresh_token"]
        case ("/introspect", _) | ("/token", "client_credentials"):
            right = [good["client_id"], good["client_secret"]]
            if [once.get("client_id"), once.get("client_secret")] != right:
                assert basic
                assert base64.b64decode(basic.split()[-1]) == ":".join(right).encode()
        case other:
            raise AssertionError(other)
