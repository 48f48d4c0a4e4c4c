"""Exports that leave something open: wrong types, names said twice, lines cut off, encodings."""

import json
from pathlib import Path

import pytest

from app.ops.people_files import MAX_LINE
from tests.support.commands import Environment, refusal, scopegate
from tests.support.exports import auth0_user, gotrue_rows, import_text, keycloak_user
from tests.support.factories import PASSWORD
from tests.support.foreign_hashes import BCRYPT, JANES_KEYCLOAK_PASSWORD

DECIDES = [
    (keycloak_user("ann", JANES_KEYCLOAK_PASSWORD), ["enabled", "emailVerified"]),
    (
        {"email": "ann@example.com", "passwordHash": BCRYPT, "blocked": False},
        ["blocked", "email_verified"],
    ),
]


@pytest.mark.parametrize("wrong", ["true", "false", "", 0, 1, [], {}])
async def test_what_decides_whether_a_user_may_sign_in_is_not_guessed(
    environment: Environment, tmp_path: Path, wrong: object
) -> None:
    for user, names in DECIDES:
        users = [{**user, name: wrong} for name in names]
        code, report = await import_text(json.dumps(users), tmp_path)
        assert (code, report["made"]) == (3, 0)
        assert [each["reason"] for each in report["refused"]] == [
            f"This user's {name} is neither true nor false." for name in names
        ]
    of_email = {"type": "email", "value": "ann@example.com", "verified": wrong}
    user = {"passwordHash": BCRYPT, "identifiers": [of_email]}
    _, report = await import_text(json.dumps(user), tmp_path)
    assert report["refused"][0]["reason"] == "This user's verified is neither true nor false."


@pytest.mark.parametrize(
    ("name", "wrong", "reason"),
    [
        ("email_confirmed_at", False, "This user's email_confirmed_at is not text."),
        ("email_confirmed_at", 0, "This user's email_confirmed_at is not text."),
        ("email_confirmed_at", [], "This user's email_confirmed_at is not text."),
        ("email_confirmed_at", "false", "This user's email_confirmed_at is not a time."),
        ("email_confirmed_at", "NULL", "This user's email_confirmed_at is not a time."),
        ("deleted_at", False, "This user's deleted_at is not text."),
        ("deleted_at", "NULL", "This user is deleted there."),
        ("banned_until", 0, "This user's banned_until is not text."),
        ("email", 7, "This user's email is not text."),
        ("encrypted_password", 7, "This user's encrypted_password is not text."),
    ],
)
async def test_what_gotrue_says_of_a_user_is_text(
    environment: Environment, tmp_path: Path, name: str, wrong: object, reason: str
) -> None:
    code, report = await import_text(json.dumps([{**gotrue_rows()[0], name: wrong}]), tmp_path)
    assert (code, report["made"]) == (3, 0)
    assert report["refused"] == [{"line": 1, "user": 1, "reason": reason}]


async def test_a_user_whose_json_says_something_twice_is_refused_alone(
    environment: Environment, tmp_path: Path
) -> None:
    good = json.dumps(keycloak_user("ann", JANES_KEYCLOAK_PASSWORD))
    users = [
        good[:-1] + ', "enabled": false}',
        good[:-1] + ', "enabled": true}',
        good[:-1] + ', "attributes": [{"a": 1, "a": 1}]}',
        good.replace('"username": "ann"', '"username": "root", "user\\u006eame": "ann"'),
    ]
    twice = "This user's JSON says something twice: an object repeats a name."
    secret = keycloak_user("ben", JANES_KEYCLOAK_PASSWORD)
    secret["credentials"][1] = {
        **JANES_KEYCLOAK_PASSWORD,
        "credentialData": JANES_KEYCLOAK_PASSWORD["credentialData"][:-1] + ',"algorithm":"x"}',
    }
    broken = "This user's password in Keycloak's export is broken."
    for text in (",".join(users), ",\n".join(users)):
        realm = f'{{"users": [{text}, {json.dumps(secret)}, {good}]}}'
        _, report = await import_text(realm, tmp_path)
        assert report["made"] + report["already_there"] == 1
        assert [each["reason"] for each in report["refused"]] == [twice] * 4 + [broken]
    _, report = await import_text("\n".join([good, *users]), tmp_path)
    assert report["already_there"] == 1
    assert [each["line"] for each in report["refused"]] == [2, 3, 4, 5]
    assert {each["reason"] for each in report["refused"]} == {twice}


async def test_users_who_share_a_line_are_told_apart_by_their_number(
    environment: Environment, tmp_path: Path
) -> None:
    users = [
        keycloak_user("ann", JANES_KEYCLOAK_PASSWORD),
        keycloak_user("ben", enabled=False),
        keycloak_user("two words", JANES_KEYCLOAK_PASSWORD),
        keycloak_user("ANN", JANES_KEYCLOAK_PASSWORD),
    ]
    file = tmp_path / "people"
    for text in (json.dumps(users), json.dumps({"users": users})):
        file.write_text(text)
        result = await scopegate("user", "import", str(file))
        assert result.exit_code == 3
        assert result.stdout.splitlines()[:3] == [
            "line 1, user 2: This user is disabled there.",
            "line 1, user 3: A username has no spaces and no control characters.",
            "line 1, user 4: That username is taken: choose another.",
        ]
    _, report = await import_text(json.dumps(users, indent=0), tmp_path)
    assert [each["user"] for each in report["refused"]] == [2, 3, 4]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"users": [\n{"username": "a"', 2),
        ('{"users": [\n{},\n{},\n}', 4),
        ('{"realm": "acme",\n"clients": []}', 2),
        ('{"users":\n7}', 2),
        ('{"users": [],\n"users": []}', 2),
        ("[" * 100_000, 1),
        ("[\n" + '{"a":' * 100_000, 2),
        ('["' + "x" * MAX_LINE, 1),
    ],
)
async def test_json_that_ends_too_soon_or_has_no_users_stops_with_its_line(
    environment: Environment, tmp_path: Path, text: str, line: int
) -> None:
    (tmp_path / "people").write_text(text)
    why = await refusal("user", "import", str(tmp_path / "people"))
    assert f"Stopped at line {line}" in why
    assert "not JSON" in why


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("text", [f"username,password_hash\nBen,{BCRYPT}\n", '{"users": []}'])
async def test_a_file_that_is_not_utf_8_is_called_that(
    environment: Environment, tmp_path: Path, encoding: str, text: str
) -> None:
    (tmp_path / "people").write_bytes(text.encode(encoding))
    why = await refusal("user", "import", str(tmp_path / "people"))
    assert "not UTF-8" in why
    assert "Nothing was imported" in why


async def test_what_is_not_utf_8_refuses_its_row_alone_and_is_called_that(
    environment: Environment, tmp_path: Path
) -> None:
    for text, line in (
        (f"username,password_hash\nB\xe9n,{BCRYPT}\nCarl,{BCRYPT}\n", 2),
        (f"username,password\nB\xe9n,{PASSWORD}\nDora,{PASSWORD}\nEm\xefl,{PASSWORD}\n", 2),
        ("\n".join(json.dumps(auth0_user(email=each), ensure_ascii=False) for each in "\xe9f"), 1),
    ):
        code, report = await import_text(text.encode("latin-1"), tmp_path)
        assert (code, report["made"]) == (3, 1)
        assert report["refused"][0]["line"] == line
        assert all("not UTF-8" in each["reason"] for each in report["refused"])
    (tmp_path / "people").write_bytes("usern\xe4me,password\n".encode("latin-1"))
    assert "not UTF-8" in await refusal("user", "import", str(tmp_path / "people"))
