"""`scopegate user import` of what other systems export: hashes of all kinds, JSON, encodings."""

import csv
import io
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from app.ops.people_files import MAX_LINE
from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.commands import Environment, printed, refusal, scopegate
from tests.support.factories import PASSWORD, Someone, login
from tests.support.foreign_hashes import BCRYPT, HASHES, JANES_KEYCLOAK_PASSWORD

KEYCLOAK_PASSWORDS = {
    # Of the user's own name each, made by Keycloak 22 and 9: 32 and 64 bytes of PBKDF2.
    "user1": ("3Z83Ic8JUztntTF9PBmLJW02MIxLxTYPg2mt5N2TgwA=", "8qeAg8keMTB9ctgwRYBQ8w=="),
    "User1": (
        "gI7lGJLNUQfn6xcMUtLp0XnOIF3JdaoAj8IogosYZsDg4Q5cFxG5JkJrKZpR7mIG5MxlH346ikZKsiZovvFKDQ==",
        "H1Yjwf5UUIip/deJSkNJ+Q==",
    ),
}

UNCONFIRMED = "This user's email address was never confirmed there."


async def import_text(text: str | bytes, tmp_path: Path) -> tuple[int, dict[str, Any]]:
    """The exit code and the report for a file of this text."""
    file = tmp_path / "people"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    result = await scopegate("user", "import", str(file), "--json")
    assert result.exit_code in {0, 3}, result.exception
    return result.exit_code, json.loads(result.stdout)


async def assert_signs_in(runtime: Runtime, passwords: dict[str, str]) -> None:
    """Each signs in with their password, again after the upgrade, and with no other."""
    async with client_of(runtime) as client:
        for name, password in passwords.items():
            someone = Someone(uuid.uuid4(), name)
            assert (await login(client, someone, password=f"{password}x")).status_code == 400
            for _ in range(2):
                assert (await login(client, someone, password=password)).status_code == 200, name


async def test_people_sign_in_with_hashes_of_every_kind(
    environment: Environment, own_runtime: Runtime, tmp_path: Path
) -> None:
    people = {f"user{i}": each for i, each in enumerate(HASHES.values())}
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["username", "password_hash"])
    # Some exports have a space behind a hash.
    rows.writerows([name, f"{text} "] for name, (text, _) in people.items())
    code, report = await import_text(text.getvalue(), tmp_path)
    assert (code, report["made"]) == (0, len(HASHES))
    await assert_signs_in(own_runtime, {name: password for name, (_, password) in people.items()})


def keycloak_user(name: str, *credentials: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A user as Keycloak exports them, in part."""
    return {
        "id": str(uuid.uuid4()),
        "username": name,
        "enabled": True,
        "emailVerified": False,
        "credentials": [{"type": "otp", "secretData": "{}"}, *credentials],
        "realmRoles": ["admin", "default-roles"],
        **more,
    }


def pbkdf2_credential(name: str, **changes: Any) -> dict[str, Any]:
    """The password of one of KEYCLOAK_PASSWORDS."""
    value, salt = KEYCLOAK_PASSWORDS[name]
    how = {"hashIterations": 27500, "algorithm": "pbkdf2-sha256", **changes}
    secret = {"value": value, "salt": salt}
    return {
        "type": "password",
        "secretData": json.dumps(secret),
        "credentialData": json.dumps(how),
    }


@pytest.mark.parametrize("indent", [None, 2], ids=["in one line", "as Keycloak writes it"])
async def test_keycloaks_export_is_imported_as_it_is(
    environment: Environment, own_runtime: Runtime, tmp_path: Path, indent: int | None
) -> None:
    realm = {
        "realm": "acme",
        "roles": {"realm": [{"name": 'users": ['}]},
        "users": [
            keycloak_user("jane", JANES_KEYCLOAK_PASSWORD),
            keycloak_user("user1", pbkdf2_credential("user1")),
            keycloak_user("user2", pbkdf2_credential("User1")),
        ],
        "clients": [{"clientId": "x"}],
    }
    text = json.dumps(realm, indent=indent, separators=(",", " : "))
    code, report = await import_text(text, tmp_path)
    assert (code, report["made"], report["refused"]) == (0, 3, [])
    assert {each["username"]: each["granted"] for each in await printed("user", "list")} == {
        "jane": [],
        "user1": [],
        "user2": [],
    }
    await assert_signs_in(own_runtime, {"jane": "secret", "user1": "user1", "user2": "user1"})


async def test_refused_users_of_keycloak_are_named_by_line(
    environment: Environment, tmp_path: Path
) -> None:
    users = [
        keycloak_user("jane", JANES_KEYCLOAK_PASSWORD),
        keycloak_user("disabled", JANES_KEYCLOAK_PASSWORD, enabled=False),
        keycloak_user("federated"),
        keycloak_user("service-account-x", serviceAccountClientId="x"),
        keycloak_user("a@example.com", JANES_KEYCLOAK_PASSWORD, email="a@example.com"),
        keycloak_user("of a plugin", pbkdf2_credential("user1", algorithm="bcrypt")),
        keycloak_user("dear", pbkdf2_credential("user1", hashIterations=10**9)),
        keycloak_user("endless", pbkdf2_credential("user1", hashIterations=float("inf"))),
        keycloak_user("broken", {"type": "password", "secretData": "{}"}),
        keycloak_user("listed", {"type": "password", "secretData": "[]", "credentialData": "[]"}),
        {"username": 7, "enabled": True, "credentials": [JANES_KEYCLOAK_PASSWORD]},
        {"username": "ann", "enabled": True, "credentials": "none"},
        {"username": "ann", "enabled": True, "credentials": [None, 1, JANES_KEYCLOAK_PASSWORD]},
        {"username": "ann", "enabled": True, "credentials": {}},
        "text",
        {"realm": "inner", "users": []},
    ]
    lines = ["{", '"users": [', ",\n".join(map(json.dumps, users)), "]}"]
    code, report = await import_text("\n".join(lines), tmp_path)
    assert (code, report["made"]) == (3, 1)
    found = {each["line"]: each["reason"] for each in report["refused"]}
    broken = "This user's password in Keycloak's export is broken."
    assert found == {
        4: "This user is disabled there.",
        5: "This user has no password there: they sign in some other way.",
        6: "This is a service account: create it here, with a secret of its own.",
        7: UNCONFIRMED,
        8: "This hash is by none of Keycloak's own algorithms.",
        9: "This hash by PBKDF2-SHA256 is too expensive to verify at a login.",
        10: broken,
        11: broken,
        12: broken,
        13: "This user's name is not text.",
        14: "This user's credentials are not a list.",
        15: "This user's credentials are a list with something in it that is no object.",
        16: "This user's credentials are not a list.",
        17: "This is not a user.",
        18: "This is not a user as Keycloak, Auth0 or GoTrue exports them.",
    }


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


def auth0_user(**members: Any) -> dict[str, Any]:
    """A user as Auth0's export of password hashes has them."""
    return {
        "_id": {"$oid": "5dea9f9c82dd7c0e76e4ec93"},
        "email_verified": True,
        "passwordHash": BCRYPT,
        "connection": "Username-Password-Authentication",
        **members,
    }


async def test_auth0s_export_is_imported_as_it_is(
    environment: Environment, own_runtime: Runtime, tmp_path: Path
) -> None:
    by_identifier = {"type": "email", "value": "carl@example.com", "verified": True}
    lines = [
        json.dumps(auth0_user(email="anna@example.com")),
        json.dumps(auth0_user(email="ben@example.com", username="ben")),
        "",
        json.dumps(auth0_user(identifiers=[by_identifier, {"type": "phone", "value": "+1"}])),
        json.dumps(auth0_user(email="dora@example.com", passwordHash=None)),
        json.dumps(auth0_user()),
        json.dumps(auth0_user(email="emil@example.com", blocked=True)),
        '{"_id": {"$oid": "cut off',
        json.dumps(auth0_user(email="fritz@example.com", identifiers={"type": []})),
        json.dumps(auth0_user(email="gerda@example.com", passwordHash=BCRYPT[:-1])),
    ]
    code, report = await import_text("\n".join(lines) + "\n", tmp_path)
    assert (code, report["made"]) == (3, 3)
    assert {each["line"]: each["reason"] for each in report["refused"]} == {
        5: "This user has no password there: they sign in some other way.",
        6: "This user has neither a username nor an email address.",
        7: "This user is blocked there.",
        8: "This line is not JSON.",
        9: "This user's identifiers are not a list.",
        10: "This hash by bcrypt is broken: perhaps it was cut off.",
    }
    names = ("anna@example.com", "ben", "carl@example.com")
    await assert_signs_in(own_runtime, dict.fromkeys(names, PASSWORD))


async def test_no_address_that_was_never_confirmed_becomes_a_username(
    environment: Environment, tmp_path: Path
) -> None:
    """Someone may have registered there with an address that is another person's."""
    confirmed = {"type": "email", "value": "new@example.com", "verified": True}
    unconfirmed = {"type": "email", "value": "boss@example.com", "verified": False}
    boss = {"email": "boss@example.com", "email_verified": False}
    users = [
        auth0_user(**boss),
        auth0_user(**boss | {"email_verified": None}),
        auth0_user(identifiers=[unconfirmed]),
        auth0_user(**boss, identifiers=[unconfirmed, {"type": "phone", "value": "+1"}]),
        # These have another name.
        auth0_user(**boss, username="ben"),
        auth0_user(**boss, identifiers=[{"type": "username", "value": "carl"}, unconfirmed]),
        auth0_user(**boss, identifiers=[confirmed]),
    ]
    code, report = await import_text("\n".join(map(json.dumps, users)), tmp_path)
    assert (code, report["made"]) == (3, 3)
    assert {each["line"]: each["reason"] for each in report["refused"]} == dict.fromkeys(
        range(1, 5), UNCONFIRMED
    )
    names = {each["username"] for each in await printed("user", "list")}
    assert names == {"ben", "carl", "new@example.com"}
    realm = {
        "users": [
            keycloak_user("a@example.com", JANES_KEYCLOAK_PASSWORD, email="a@example.com"),
            keycloak_user(
                "b@example.com",
                JANES_KEYCLOAK_PASSWORD,
                email="b@example.com",
                emailVerified=True,
            ),
            keycloak_user("dora", JANES_KEYCLOAK_PASSWORD, email="dora@example.com"),
        ]
    }
    code, report = await import_text(json.dumps(realm), tmp_path)
    assert (code, report["made"]) == (3, 2)
    assert [each["reason"] for each in report["refused"]] == [UNCONFIRMED]


GOTRUE_USERS: list[dict[str, Any]] = [
    {"email": "anna@example.com", "banned_until": None},
    {"email": "ben@example.com", "banned_until": "2124-01-01T00:00:00+00:00"},
    {"email": "carl@example.com", "deleted_at": "2024-01-01T00:00:00+00:00"},
    {"email": "dora@example.com", "email_confirmed_at": None},
    {"email": None, "phone": "4915112345678"},
    {"email": "emil@example.com", "encrypted_password": ""},
]


def gotrue_rows() -> list[dict[str, Any]]:
    """Rows of GoTrue's table of users, in part."""
    common = {
        "instance_id": "00000000-0000-0000-0000-000000000000",
        "email": "",
        "encrypted_password": BCRYPT,
        "email_confirmed_at": "2023-01-01T00:00:00+00:00",
        "raw_user_meta_data": {"name": "A, B", "admin": True},
        "phone": None,
        "deleted_at": None,
        "banned_until": None,
    }
    return [{**common, **user} for user in GOTRUE_USERS]


def gotrue_csv() -> str:
    text = io.StringIO()
    rows = csv.DictWriter(text, list(gotrue_rows()[0]), lineterminator="\n")
    rows.writeheader()
    for row in gotrue_rows():
        rows.writerow({**row, "raw_user_meta_data": json.dumps(row["raw_user_meta_data"])})
    return text.getvalue()


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (gotrue_csv(), 2),
        ("\n".join(map(json.dumps, gotrue_rows())), 1),
        ("[" + ",\n".join(map(json.dumps, gotrue_rows())) + "]", 1),
    ],
    ids=["CSV", "a row a line, as JSON", "a list, as JSON"],
)
async def test_gotrues_export_is_imported_as_it_is(
    environment: Environment, own_runtime: Runtime, tmp_path: Path, text: str, first: int
) -> None:
    code, report = await import_text(text, tmp_path)
    assert (code, report["made"]) == (3, 1)
    assert {each["line"] - first: each["reason"] for each in report["refused"]} == {
        1: "This user is or was banned there.",
        2: "This user is deleted there.",
        3: UNCONFIRMED,
        4: "This user has no email address, which would be the username.",
        5: "This user has no password there: they sign in some other way.",
    }
    await assert_signs_in(own_runtime, {"anna@example.com": PASSWORD})


async def test_firebases_export_is_refused_with_what_to_do(
    environment: Environment, tmp_path: Path
) -> None:
    user = {"localId": "1", "email": "anna@example.com", "passwordHash": "aGFzaA==", "salt": "c2E="}
    code, report = await import_text(json.dumps({"users": [user]}), tmp_path)
    assert code == 3
    assert "docs/how-to/move-from-another-system.md" in report["refused"][0]["reason"]


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
