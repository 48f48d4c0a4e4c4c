"""`scopegate user import`: whole rows only, whatever befalls it, and no secret in what it says."""

import asyncio
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from passlib.hash import argon2, bcrypt
from sqlalchemy import text

from app.identity.account_writes import add_users, create_service
from app.identity.users import NewUser
from app.ops.imports import import_people
from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.commands import Environment, printed, refusal, scopegate, succeed
from tests.support.databases import wait_for_lock
from tests.support.documents import Document
from tests.support.factories import OPERATOR, PASSWORD, Someone, login, make_user

HASH = bcrypt.using(rounds=4).hash(PASSWORD)


async def import_rows(*lines: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the report for these lines of a file."""
    result = await scopegate("user", "import", "-", "--json", stdin="\n".join(lines) + "\n")
    assert result.exit_code in {0, 3}, result.exception
    return result.exit_code, json.loads(result.stdout)


async def test_people_come_in_with_their_hashes_and_scopes_and_can_sign_in(
    environment: Environment, own_runtime: Runtime, tmp_path: Path
) -> None:
    file = tmp_path / "people.csv"
    by_argon2 = argon2.using(memory_cost=512, time_cost=1).hash(PASSWORD)  # type: ignore[no-untyped-call]
    file.write_text(
        "\ufeffusername,password_hash,password,scopes\r\n"
        f"Ben,{HASH},,read:items write:items\r\n"
        f'Anna,"{by_argon2}",,\r\n\r\n'
        f'"Carl",,"{PASSWORD}",read:items\r\n'
    )
    result = await scopegate("user", "import", str(file))
    # No terminal is here to watch how far it is.
    assert (result.exit_code, result.output) == (
        0,
        "3 rows: 3 made, 0 already there, 0 refused\n",
    )
    assert PASSWORD not in result.output
    async with client_of(own_runtime) as client:
        for name, scope in (
            ("Ben", "read:items write:items"),
            ("Anna", ""),
            ("Carl", "read:items"),
        ):
            ben = Someone((await user_id(own_runtime, name)), name)
            answer = await login(client, ben)
            assert (answer.status_code, answer.json()["scope"]) == (200, scope)
            assert (await login(client, ben, password="wrong")).status_code == 400
    shown = await printed("user", "show", "ben")
    assert shown["kind"] == "person"
    told = (await scopegate("audit", "--user", "ben")).stdout
    assert [line.split()[1] for line in told.splitlines()][:3] == [
        "user.created",
        "grant.made",
        "grant.made",
    ]
    assert HASH not in told


async def test_the_documents_example_is_imported(environment: Environment) -> None:
    (example,) = Document("docs/how-to/import-users.md").blocks("csv")
    code, report = await import_rows(*example.text.splitlines())
    assert (code, report["made"]) == (0, 2)


async def user_id(runtime: Runtime, name: str) -> Any:
    async with runtime.sessions() as db:
        found = text("SELECT id FROM users WHERE username = :name")
        return await db.scalar(found, {"name": name})


async def test_refused_rows_are_reported_with_their_lines_and_the_others_are_in(
    environment: Environment, own_runtime: Runtime
) -> None:
    await make_user(own_runtime, "read:items", username="Alice")
    secrets = [f"${secret}$" for secret in ("5$rounds=1000$salt$sha", "2b$04$tooshort")]
    code, report = await import_rows(
        "username,password_hash,password,scopes",
        f"Ben,{HASH},,read:items",
        f"Alice,{HASH},,write:items",
        f"alice,{HASH},,",
        f"two words,{HASH},,",
        f"Carl,{secrets[0]},,",
        f"Dora,{secrets[1]},,",
        f"Emil,{HASH},,no:such",
        "Fritz,,short,",
        f"Gerda,{HASH},{PASSWORD},",
        "Hans,,,",
        f"Ida,{HASH}",
        f"Ben,{HASH},,",
        f"ben,{HASH},,",
        f"Kurt,{HASH.replace('$04$', '$31$')},,",
        f"Lena,{HASH.replace('$2b$', '$2x$')},,",
        f"Mia,{HASH},,read:items",
    )
    assert code == 3
    assert (report["rows"], report["made"], report["already_there"]) == (16, 2, 2)
    assert report["stopped"] is None
    assert {each["line"]: each["reason"] for each in report["refused"]} == {
        4: "That username is taken: choose another.",
        5: "A username has no spaces and no control characters.",
        6: "This hash by sha256-crypt is broken: perhaps it was cut off.",
        7: "This hash by bcrypt is broken: perhaps it was cut off.",
        8: "There is no scope no:such: see the list of scopes.",
        9: "A password has at least 8 bytes.",
        10: "Give each row a password or a password_hash, not both.",
        11: "Give each row a password or a password_hash, not both.",
        12: "The row has 2 fields, not 4: what has commas in it, as argon2 hashes do, is quoted.",
        14: "That username is taken: choose another.",
        15: "This hash by bcrypt is too expensive to verify at a login.",
        16: "Not supported here: a hash by the faulty bcrypt that PHP had until 2011 ($2x$).",
    }
    listed = {each["username"]: each["granted"] for each in await printed("user", "list")}
    assert listed == {"Alice": ["read:items"], "Ben": ["read:items"], "Mia": ["read:items"]}


# Each begins a field that goes on in the next line, by one dialect of CSV or another; and that line
# would be a row.
EVIL = f"evil,{HASH},admin"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (f'"Ben\n{EVIL}\n","{HASH}",', "left open"),
        (f'"Ben\\"y\n{EVIL}\n","{HASH}",', "backslash"),
        (f'"Ben\\"\n{EVIL}\n\\"","{HASH}",', "backslash"),
        (f'"Ben\\"",{HASH},"\n{EVIL}', "backslash"),
        (f"Ben\\\n{EVIL}", "backslash"),
        (f'Ben, "{HASH}\n{EVIL}\n",', "left open"),
        (f'Ben,"{HASH}"x,"{HASH}"\n{EVIL}', "not CSV"),
        (f"Ben\r{EVIL}", "carriage return"),
        (f'"Ben\r{EVIL}\r","{HASH}",', "carriage return"),
        ("B" * 131_073 + f"\n{EVIL}", "longer"),
        (f'"{"B" * 131_073}\n{EVIL}\n","{HASH}",', "longer"),
    ],
    ids=[
        "a field of two lines",
        "a quotation mark escaped",
        "a quotation mark escaped at the end",
        "a field's end escaped",
        "a line's end escaped",
        "a space before the field",
        "text after the field",
        "a carriage return",
        "a carriage return in a field",
        "a long line",
        "a long field",
    ],
)
async def test_at_a_line_that_is_no_row_the_import_stops_and_what_follows_is_nobody(
    environment: Environment, line: str, why: str
) -> None:
    head = ("username,password_hash,scopes", f"Anna,{HASH},read:items")
    rows = "\n".join([*head, line, f"Carl,{HASH},", f'"Dora","{HASH}",""', ""])
    result = await scopegate("user", "import", "-", "--json", stdin=rows)
    assert result.exit_code == 1
    said = str(result.exception)
    assert "Stopped at line 3, and read nothing after it" in said
    assert why in said
    assert HASH not in f"{result.output}{said}"
    report = json.loads(result.stdout)
    assert (report["rows"], report["made"], report["stopped"]["line"]) == (1, 1, 3)
    assert [each["username"] for each in await printed("user", "list")] == ["Anna"]


async def test_an_import_that_stopped_goes_on_when_the_line_is_mended(
    environment: Environment,
) -> None:
    rows = ["username,password_hash", f"Anna,{HASH}", f'"Ben,{HASH}', f"Carl,{HASH}"]
    assert "Stopped at line 3" in await refusal("user", "import", "-", stdin="\n".join(rows))
    rows[2] = f"Ben,{HASH}"
    code, report = await import_rows(*rows)
    assert (code, report["made"], report["already_there"]) == (0, 2, 1)


async def test_fields_are_quoted_as_rfc_4180_has_it(environment: Environment) -> None:
    names = ['quo"ted', "com,ma", "back\\slash", "plain"]
    quoted = ['"quo""ted"', '"com,ma"', '"back\\slash"', "plain"]
    rows = [f"{name},{HASH}" for name in quoted]
    code, report = await import_rows("username,password_hash", *rows, "", "", rows[0])
    assert (code, report["made"], report["already_there"]) == (0, 4, 1)
    assert [each["username"] for each in await printed("user", "list")] == names[::-1]


async def test_a_service_accounts_name_is_refused_and_the_account_stays_as_it_is(
    environment: Environment,
) -> None:
    await succeed("user", "create", "robot", "--service")
    rows = (f"robot,{HASH},admin", f"Robot,{HASH},admin")
    code, report = await import_rows("username,password_hash,scopes", *rows)
    assert (code, report["made"], report["already_there"]) == (3, 0, 0)
    reason = "A service account has that name."
    assert report["refused"] == [{"line": line, "reason": reason} for line in (2, 3)]
    shown = await printed("user", "show", "robot")
    assert (shown["kind"], shown["grants"]) == ("service", [])


async def test_whose_name_is_taken_this_very_moment_is_told_by_who_took_it(
    environment: Environment, own_runtime: Runtime
) -> None:
    environment.setenv("SCOPEGATE_DATABASE_STATEMENT_TIMEOUT", "60")
    rows = [f"{name},{HASH}," for name in ("robot", "ben", "carl", "dora")]
    async with own_runtime.work(OPERATOR) as work:
        await create_service(work, username="robot")
        people = [NewUser(name, "person", HASH) for name in ("ben", "Carl")]
        await add_users(work, people)
        importing = asyncio.create_task(import_rows("username,password_hash,scopes", *rows))
        await wait_for_lock(own_runtime)
    code, report = await importing
    assert (code, report["made"], report["already_there"]) == (3, 1, 1)
    assert report["refused"] == [
        {"line": 2, "reason": "A service account has that name."},
        {"line": 4, "reason": "That username is taken: choose another."},
    ]


async def test_a_row_whose_name_looks_like_another_is_refused_alone(
    environment: Environment, own_runtime: Runtime
) -> None:
    await make_user(own_runtime, username="admin")
    rows = ["username,password_hash"]
    names = ["adm\u0131n", "mary", "rnary", "rn\u0430ry", "zo\u00eb", "z\u043e\u00eb", " ann "]
    rows += [f"{name},{HASH}" for name in names]
    for made in (4, 0):
        code, report = await import_rows(*rows)
        assert (code, report["made"], report["already_there"]) == (3, made, 4 - made)
        assert [each["line"] for each in report["refused"]] == [2, 5, 7]
    assert await user_id(own_runtime, "ann")


async def test_a_row_with_any_number_of_scopes_is_refused_alone(environment: Environment) -> None:
    many = [" ".join(f"{row}:{i}" for i in range(1000)) for row in range(40)]
    rows = [f"user{row},{HASH},{scopes}" for row, scopes in enumerate(many)]
    code, report = await import_rows(
        "username,password_hash,scopes", *rows, f"Mia,{HASH},read:items"
    )
    assert (code, report["made"], len(report["refused"])) == (3, 1, 40)


async def test_the_report_for_people_names_lines_and_no_secret(environment: Environment) -> None:
    bad = "$2b$04$thisisabrokenhash"
    rows = f"username,password_hash,password\nBen,{bad},\nCarl,,hunter2\n"
    result = await scopegate("user", "import", "-", stdin=rows)
    assert result.exit_code == 3
    assert result.stdout.splitlines() == [
        "line 2: This hash by bcrypt is broken: perhaps it was cut off.",
        "line 3: A password has at least 8 bytes.",
        "2 rows: 0 made, 0 already there, 2 refused",
    ]
    assert bad not in result.output
    assert "hunter2" not in result.output


async def test_a_file_that_does_not_name_its_columns_is_refused(
    environment: Environment, tmp_path: Path
) -> None:
    for first in (f"Ben,{HASH}", "", "username", "password", "username,password,password", '"x'):
        result = await scopegate("user", "import", "-", stdin=f"{first}\nBen,{HASH}\n")
        assert result.exit_code == 1
        assert "must name the columns" in str(result.exception)
        assert HASH not in f"{result.output}{result.exception}"
    assert await printed("user", "list") == []
    absent = await scopegate("user", "import", str(tmp_path / "absent.csv"))
    assert absent.exit_code == 2
    assert "No such file" in absent.stderr


async def test_no_more_passwords_are_hashed_than_can_wait(environment: Environment) -> None:
    environment.setenv("SCOPEGATE_HASH_QUEUE", "1")
    rows = [f"user{i},the password of {i}" for i in range(12)]
    code, report = await import_rows("username,password", *rows)
    assert (code, report["made"]) == (0, 12)


async def test_an_address_that_was_confirmed_there_comes_along(
    environment: Environment, own_runtime: Runtime
) -> None:
    code, report = await import_rows(
        "username,password_hash,email",
        f"anna,{HASH},Anna@Example.com",
        f"berta@example.com,{HASH},berta@example.com",
        f"carl,{HASH},",
        # Taken by a row before, by a name in this file, by a name that is there, and no address.
        f"dora,{HASH},anna@example.com",
        f"emil,{HASH},berta@example.com",
        f"fritz,{HASH},nowhere",
        f"ANNA@example.com,{HASH},",
    )
    assert (code, report["made"]) == (3, 3)
    assert [each["line"] for each in report["refused"]] == [5, 6, 7, 8]
    shown = await printed("user", "show", "anna")
    assert (shown["email"], shown["email_verified"]) == ("Anna@example.com", True)
    async with client_of(own_runtime) as client:
        for name in ("anna@example.com", "berta@example.com"):
            answer = await login(client, Someone(await user_id(own_runtime, "anna"), name))
            assert answer.status_code == 200, name


async def test_imports_that_wait_for_each_other_give_an_address_to_one(
    own_runtime: Runtime, environment: Environment
) -> None:
    await make_user(own_runtime, username="taken@example.com")
    files = [
        BytesIO(f"username,password_hash,email\nuser-{n},{HASH},same@example.com\n".encode())
        for n in range(3)
    ]
    reports = await asyncio.gather(
        *(import_people(own_runtime, each, by=OPERATOR, progress=lambda _: None) for each in files)
    )
    assert sum(each.made for each in reports) == 1
    assert sum(len(each.refused) for each in reports) == 2
    _, report = await import_rows("username,password_hash,email", f"other,{HASH},Taken@example.com")
    assert report["refused"]
