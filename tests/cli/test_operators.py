"""The audit log names the operator who ran a command."""

import getpass
import json
import platform
from typing import Any

import pytest

from tests.support.commands import Environment, scopegate, succeed
from tests.support.factories import PASSWORD

COMMANDS = [
    (["user", "create", "alice"], "user.created"),
    (["user", "create", "worker", "--service"], "user.created"),
    (["grant", "alice", "read:items"], "grant.made"),
    (["revoke", "alice", "read:items"], "grant.revoked"),
    (["user", "rename", "alice", "alicia"], "user.changed"),
    (["user", "disable", "alicia", "--yes"], "user.disabled"),
    (["user", "enable", "alicia"], "user.enabled"),
    (["user", "password", "alicia"], "password.changed"),
    (["user", "secret", "worker"], "secret.made"),
    (["scope", "register", "x:y", "--description", "Why"], "scope.registered"),
    (["scope", "remove", "x:y"], "scope.removed"),
    (["key", "rotate"], "key.rotated"),
]


async def entries(action: str | None = None) -> list[dict[str, Any]]:
    """The entries of that kind, the newest first."""
    told = await succeed("audit", "--json", *(["--action", action] if action else []))
    return [json.loads(line) for line in reversed(told.splitlines())]


async def test_every_change_by_a_command_names_who_ran_it(environment: Environment) -> None:
    environment.setenv("SUDO_USER", "grace")
    who = f"grace@{platform.node()}"
    for command, action in COMMANDS:
        await succeed(*command, stdin=f"{PASSWORD}\n")
        newest = (await entries(action))[0]
        assert newest["detail"]["operator"] == who, command
        assert newest["actor"] is None
    shown = await succeed("audit")
    assert f"operator {who} > alicia" in shown
    assert "operator=" not in shown


async def test_an_import_and_the_first_admin_name_who_ran_them(environment: Environment) -> None:
    environment.setenv("SUDO_USER", "grace")
    await succeed("migrate", "--first-admin")
    await succeed(
        "user", "import", "-", stdin="username,password,scopes\nbob,correct horse,admin\n"
    )
    made = [each for each in await entries() if each["action"] in {"user.created", "grant.made"}]
    assert len(made) == 4
    assert {each["detail"]["operator"] for each in made} == {f"grace@{platform.node()}"}


@pytest.mark.parametrize(
    ("sudo_user", "user", "named"),
    [
        (None, "henry", "henry@"),
        ("", "henry", "henry@"),
        ("grace", "root", "grace@"),
        ("gr\u00e4ce", "root", "gr\u00e4ce@"),
        ("a\nb", "root", "a\\nb@"),
        ("\udcff", "root", "\\udcff@"),
        ("g" * 5000, "root", "g" * 128),
    ],
)
async def test_whatever_the_operator_is_called_the_entry_is_written(
    environment: Environment, sudo_user: str | None, user: str, named: str
) -> None:
    environment.delenv("SUDO_USER", raising=False)
    if sudo_user is not None:
        environment.setenv("SUDO_USER", sudo_user)
    environment.setenv("LOGNAME", user)
    await succeed("user", "create", "worker", "--service")
    (made,) = await entries("user.created")
    assert made["detail"]["operator"].startswith(named)
    assert len(made["detail"]["operator"]) <= 200


async def test_a_user_that_has_no_name_is_named_by_the_id(environment: Environment) -> None:
    """As in a container."""

    def unknown() -> str:
        raise KeyError

    environment.delenv("SUDO_USER", raising=False)
    environment.setattr(getpass, "getuser", unknown)
    environment.setattr("os.getuid", lambda: 10001)
    await succeed("key", "rotate")
    assert (await entries("key.rotated"))[0]["detail"]["operator"].startswith("10001@")


async def test_a_service_accounts_secrets_are_listed(environment: Environment) -> None:
    await succeed("user", "create", "worker", "--service")
    made = json.loads(await succeed("user", "secret", "worker", "--json"))
    listed = json.loads(await succeed("user", "secrets", "worker", "--json"))
    assert [each["secret_id"] for each in listed][1:] == [made["secret_id"]]
    assert len(listed) == 2
    assert all(each["created_at"].endswith("Z") for each in listed)
    shown = await succeed("user", "secrets", "worker")
    assert shown.split()[:2] == ["secret_id", "created_at"]
    assert made["client_secret"] not in shown
    await succeed("user", "revoke-secret", "worker", listed[0]["secret_id"])
    assert len(json.loads(await succeed("user", "secrets", "worker", "--json"))) == 1
    await succeed("user", "create", "alice", stdin=f"{PASSWORD}\n")
    for name, why in (("alice", "is a person"), ("nobody", "no such user")):
        assert why in str((await scopegate("user", "secrets", name)).exception)


async def test_each_table_of_a_user_has_a_title(environment: Environment) -> None:
    await succeed("user", "create", "worker", "--service", "--scope", "read:items")
    titles = ["User", "Grants", "Sessions", "Secrets"]
    lines = (await succeed("user", "show", "worker")).splitlines()
    assert [line for line in lines if line in titles] == titles
    assert lines[lines.index("Sessions") + 1] == "  none"
    await succeed("user", "create", "alice", stdin=f"{PASSWORD}\n")
    lines = (await succeed("user", "show", "alice")).splitlines()
    assert [line for line in lines if line in titles] == titles[:3]
    assert lines[lines.index("Grants") + 1] == "  none"
