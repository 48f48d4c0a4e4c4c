"""Every 422 says what was wrong in words, and repeats nothing of the input."""

import json
from typing import Any, get_args

import httpx2
import pytest

from app.audit.actions import Action
from app.identity.names import MAX_USERNAME
from app.runtime import Runtime
from tests.support.factories import make_user

ID = "00000000-0000-0000-0000-000000000000"
CANARY = "canary7f3a"
GRANT = f"/users/{ID}/grants/read:items"
BOTH = "A service account has no password and no address."
MOMENT = "Write a moment as RFC 3339 does: 2027-01-31T18:00:00Z."
TEXT = "This is not text: it has a NUL or a broken character."
SCOPE = "A scope's name has at least one character, and only RFC 6749's."
JSON = "The body is not valid JSON."
BROKEN = "This username is not text: it has a broken character."
OBJECT = "Send a JSON object, as application/json."

WRONG: list[tuple[str, str, Any, str]] = [
    ("POST", "/users", {"username": CANARY, "kind": "service", "password": CANARY}, BOTH),
    (
        "POST",
        "/users",
        {"username": CANARY, "kind": CANARY},
        "Input should be 'person' or 'service'",
    ),
    ("POST", "/users", {"username": 7, "password": CANARY}, "Input should be a valid string"),
    ("POST", "/users", {"password": CANARY}, "Field required"),
    ("POST", "/users", [CANARY], OBJECT),
    ("POST", "/users", CANARY, OBJECT),
    ("PUT", GRANT, {"expires_at": CANARY}, MOMENT),
    ("PUT", GRANT, {"expires_at": 1_900_000_000}, MOMENT),
    ("PUT", GRANT, {"expires_at": f"2027-01-31T{CANARY}"}, "Input should be a valid datetime"),
    ("PUT", GRANT, {"expires_at": "2027-01-31T18:00:00"}, "Input should have timezone info"),
    ("PUT", GRANT, {"expires_at": "0001-01-01T00:00:00+10:00"}, "This moment is out of range."),
    ("PUT", GRANT, {"reason": f"{CANARY}\0"}, TEXT),
    ("PUT", GRANT, {"reason": CANARY * 100}, "This is too long: the maximum length is 500."),
    ("PATCH", f"/items/{ID}", {"title": None}, "An item has a title: leave it out to keep it."),
    ("POST", "/items", {"title": ""}, "This is too short: the minimum length is 1."),
    ("PATCH", f"/users/{ID}", {"disabled": CANARY}, "Input should be a valid boolean"),
    ("GET", f"/users/{CANARY}", None, "Input should be a valid UUID"),
    (
        "GET",
        f"/users?q={'x' * (MAX_USERNAME + 1)}",
        None,
        "This is too long: the maximum length is 254.",
    ),
    ("GET", f"/users?limit={CANARY}", None, "Input should be a valid integer"),
    ("GET", "/users?limit=0", None, "Input should be greater than or equal to 1"),
    ("GET", "/users?limit=101", None, "Input should be less than or equal to 100"),
    ("GET", f"/audit?since={CANARY}", None, MOMENT),
    ("GET", "/users?scope=", None, SCOPE),
    ("GET", "/users?scope=%22", None, SCOPE),
    ("GET", f"/users?scope={CANARY}+{CANARY}", None, SCOPE),
    ("GET", f"/users?scope={CANARY}%5C", None, SCOPE),
    ("GET", "/users?scope=%00", None, SCOPE),
    (
        "PUT",
        "/scopes/" + "x" * 129,
        {"description": ""},
        "String should have at most 128 characters",
    ),
]


def problems(answer: httpx2.Response) -> list[str]:
    assert answer.status_code == 422, answer.text
    assert CANARY not in answer.text
    return [each["msg"] for each in answer.json()["detail"]]


@pytest.mark.parametrize(("method", "path", "body", "reason"), WRONG)
async def test_a_422_says_what_was_wrong(
    client: httpx2.AsyncClient,
    root: dict[str, str],
    method: str,
    path: str,
    body: Any,
    reason: str,
) -> None:
    found = problems(await client.request(method, path, json=body, headers=root))
    assert found
    assert all(each.startswith(reason) for each in found), found


@pytest.mark.parametrize(
    "body", ["{", CANARY, '{"username": "\\x"}', '{"a": 1} ' + CANARY, "", '{"a":01}', "{}{}"]
)
async def test_what_is_not_json_is_called_that(
    client: httpx2.AsyncClient, root: dict[str, str], body: str
) -> None:
    headers = {**root, "Content-Type": "application/json"}
    answer = await client.post("/users", content=body.encode(), headers=headers)
    assert problems(answer) == ["Field required" if body == "" else JSON]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"username": "zoë"}'.encode("latin-1"), f"{JSON[:-1]}: it is not UTF-8."),
        (b'"\xff"', f"{JSON[:-1]}: it is not UTF-8."),
        ('{"username": "zoë"}'.encode("utf-16")[:-1], f"{JSON[:-1]}: it is not UTF-8."),
        (b"[" * 5000, "The body is JSON that is nested too deeply."),
        (b'{"a":' * 5000, "The body is JSON that is nested too deeply."),
        (b'{"a": ' + b"7" * 5000 + b"}", "The body is JSON with a number that is too long."),
    ],
)
async def test_a_body_that_cant_be_decoded_is_called_that(
    client: httpx2.AsyncClient, root: dict[str, str], body: bytes, reason: str
) -> None:
    for method, path in (("POST", "/users"), ("POST", "/items"), ("PUT", GRANT)):
        headers = {**root, "Content-Type": "application/json"}
        answer = await client.request(method, path, content=body, headers=headers)
        assert problems(answer) == [reason]


async def test_a_form_where_json_belongs_is_told_what_to_send(
    client: httpx2.AsyncClient, root: dict[str, str]
) -> None:
    answer = await client.post("/users", data={"username": CANARY}, headers=root)
    assert problems(answer) == [OBJECT]


async def test_a_value_that_is_none_of_several_is_told_all_of_them(
    client: httpx2.AsyncClient, root: dict[str, str]
) -> None:
    (problem,) = problems(await client.get(f"/audit?action={CANARY}", headers=root))
    assert all(f"'{action}'" in problem for action in get_args(Action))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "A username has 1 to 254 characters."),
        (" ", "A username has 1 to 254 characters."),
        ("x" * 255, "A username has 1 to 254 characters."),
        ("two words", "A username has no spaces and no control characters."),
        ("tab\t", "A username has no spaces and no control characters."),
        ("\ud800", BROKEN),
        ("zo\udcebx", BROKEN),
        ("x\ufe0f", "A username has no invisible characters."),
    ],
)
async def test_what_the_domain_refuses_is_said_in_words_too(
    client: httpx2.AsyncClient, runtime: Runtime, root: dict[str, str], name: str, reason: str
) -> None:
    user = await make_user(runtime)
    # As JSON escapes it, since no UTF-8 has a surrogate.
    body = json.dumps({"username": name})
    headers = {**root, "Content-Type": "application/json"}
    answer = await client.patch(f"/users/{user.id}", content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (422, {"detail": reason})
