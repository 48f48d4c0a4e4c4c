"""`scopegate user import` of what other systems export: hashes of all kinds, JSON, encodings."""

import csv
import io
import json
import uuid
from pathlib import Path

import pytest

from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.commands import Environment, printed
from tests.support.exports import (
    auth0_user,
    gotrue_rows,
    import_text,
    keycloak_user,
    pbkdf2_credential,
)
from tests.support.factories import PASSWORD, Someone, login
from tests.support.foreign_hashes import BCRYPT, HASHES, JANES_KEYCLOAK_PASSWORD

UNCONFIRMED = "This user's email address was never confirmed there."


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
