"""Users as other systems export them, and what an import of such a file reports."""

import json
import uuid
from pathlib import Path
from typing import Any

from tests.support.commands import scopegate
from tests.support.foreign_hashes import BCRYPT

KEYCLOAK_PASSWORDS = {
    # Of the user's own name each, made by Keycloak 22 and 9: 32 and 64 bytes of PBKDF2.
    "user1": ("3Z83Ic8JUztntTF9PBmLJW02MIxLxTYPg2mt5N2TgwA=", "8qeAg8keMTB9ctgwRYBQ8w=="),
    "User1": (
        "gI7lGJLNUQfn6xcMUtLp0XnOIF3JdaoAj8IogosYZsDg4Q5cFxG5JkJrKZpR7mIG5MxlH346ikZKsiZovvFKDQ==",
        "H1Yjwf5UUIip/deJSkNJ+Q==",
    ),
}
GOTRUE_USERS: list[dict[str, Any]] = [
    {"email": "anna@example.com", "banned_until": None},
    {"email": "ben@example.com", "banned_until": "2124-01-01T00:00:00+00:00"},
    {"email": "carl@example.com", "deleted_at": "2024-01-01T00:00:00+00:00"},
    {"email": "dora@example.com", "email_confirmed_at": None},
    {"email": None, "phone": "4915112345678"},
    {"email": "emil@example.com", "encrypted_password": ""},
]


async def import_text(text: str | bytes, tmp_path: Path) -> tuple[int, dict[str, Any]]:
    """The exit code and the report for a file of this text."""
    file = tmp_path / "people"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    result = await scopegate("user", "import", str(file), "--json")
    assert result.exit_code in {0, 3}, result.exception
    return result.exit_code, json.loads(result.stdout)


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


def auth0_user(**members: Any) -> dict[str, Any]:
    """A user as Auth0's export of password hashes has them."""
    return {
        "_id": {"$oid": "5dea9f9c82dd7c0e76e4ec93"},
        "email_verified": True,
        "passwordHash": BCRYPT,
        "connection": "Username-Password-Authentication",
        **members,
    }


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
