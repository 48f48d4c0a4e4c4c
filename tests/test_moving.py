"""The guide for those who come from another system: its commands take people over as they are."""

import json
import uuid
from pathlib import Path

import pytest
from passlib.hash import argon2, bcrypt

from app.runtime import Runtime
from tests.conftest import SECRET, client_of, settings_for
from tests.support.documents import walking
from tests.support.factories import PASSWORD, Someone, login
from tests.support.foreign_hashes import FIREBASE, HASHES, JANES_KEYCLOAK_PASSWORD
from tests.support.postgres_programs import libpq_url, on_path, psql
from tests.support.processes import environment

GUIDE = "docs/how-to/move-from-another-system.md"
# As pwdlib, passlib, Django, GoTrue and Auth0 make them, but for the cost.
BY_ARGON2 = argon2.using(type="ID", memory_cost=512, time_cost=1).hash(PASSWORD)  # type: ignore[no-untyped-call]
BY_BCRYPT = bcrypt.using(rounds=4).hash(PASSWORD)
TABLES = f"""
    CREATE TABLE "user" (
        id uuid DEFAULT gen_random_uuid(), email varchar(320), hashed_password varchar(1024),
        is_active bool, is_superuser bool, is_verified bool
    );
    INSERT INTO "user" (email, hashed_password, is_active, is_superuser, is_verified) VALUES
        ('anna@example.com', '{BY_ARGON2}', true, true, false),
        ('ben@example.com', '{BY_BCRYPT}', true, false, true),
        ('carl@example.com', '{BY_BCRYPT}', false, false, true);

    CREATE TABLE auth_user (username varchar(150), password varchar(128), is_active bool);
    INSERT INTO auth_user VALUES
        ('dora', '{HASHES["Django, PBKDF2"][0]}', true),
        ('emil', '{HASHES["Django, PBKDF2"][0]}', false);

    CREATE SCHEMA auth;
    CREATE TABLE auth.users (
        email varchar(255), encrypted_password varchar(255), email_confirmed_at timestamptz,
        deleted_at timestamptz, banned_until timestamptz, raw_user_meta_data jsonb
    );
    INSERT INTO auth.users VALUES
        ('fritz@example.com', '{BY_BCRYPT}', now(), NULL, NULL, '{{"name": "\\"F\\"\\n"}}'),
        ('gerda@example.com', '{BY_BCRYPT}', NULL, NULL, NULL, NULL),
        ('hans@example.com', '{BY_BCRYPT}', now(), NULL, now() + interval '1 year', NULL);
"""
LDIF = f"""dn: uid=mia,dc=example,dc=com
uid: mia
userPassword:: e1NTSEF9bjhBWGlmVmVhMFBja1BDdTQv
 azJkT3hYWXdSellXeDA=

dn: uid=nils,dc=example,dc=com
uid: nils
userPassword: {{CRYPT}}{BY_BCRYPT}

dn: ou=people,dc=example,dc=com
ou: people
"""
CAME = {
    "johndoe": (PASSWORD, "items me"),
    "anna@example.com": (PASSWORD, "admin"),
    "ben@example.com": (PASSWORD, ""),
    "dora": (PASSWORD, ""),
    "jane": ("secret", ""),
    "ida@example.com": (PASSWORD, ""),
    "otto@example.com": (PASSWORD, ""),
    "fritz@example.com": (PASSWORD, ""),
    "kurt@example.com": ("user1password", ""),
    "lena": ("password", ""),
    "mia": ("Winter-Garten-22", ""),
    "nils": (PASSWORD, ""),
}


def write_exports(folder: Path) -> dict[str, str]:
    """Write the files that other systems export; return what the guide has in the environment."""
    johndoe = {"username": "johndoe", "hashed_password": BY_ARGON2, "disabled": False}
    alice = {"username": "alice", "hashed_password": BY_BCRYPT, "disabled": True}
    (folder / "main.py").write_text(f"fake_users_db = { {'johndoe': johndoe, 'alice': alice}!r}")
    jane = {"username": "jane", "enabled": True, "credentials": [JANES_KEYCLOAK_PASSWORD]}
    (folder / "realm.json").write_text(json.dumps({"realm": "acme", "users": [jane]}, indent=2))
    (folder / "auth0.ndjson").write_text(auth0_line("ida@example.com", verified=True))
    _, _, parameters, salt, password_hash = FIREBASE.split("$")
    separator, key = parameters.split("ss=")[1].split(",sk=")
    kurt = {"localId": "1", "email": "kurt@example.com", "passwordHash": password_hash}
    users = [{**kurt, "salt": salt}, {"localId": "2", "email": "by@google.example"}]
    (folder / "users.json").write_text(json.dumps({"users": users}))
    by_wordpress = HASHES["WordPress 6.8"][0]
    (folder / "wordpress.csv").write_text(f"user_login,user_pass\nlena,{by_wordpress}\n")
    (folder / "people.ldif").write_text(LDIF)
    return {"BASE64_SIGNER_KEY": key, "BASE64_SALT_SEPARATOR": separator}


def auth0_line(email: str, *, verified: bool) -> str:
    """A line of Auth0's export: a user who may have confirmed this address."""
    user = {"_id": {}, "email": email, "email_verified": verified, "passwordHash": BY_BCRYPT}
    return json.dumps(user) + "\n"


@pytest.mark.system
async def test_moving_takes_people_over_with_their_passwords(
    own_database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    exported = write_exports(tmp_path)
    assert psql(empty_database_url, TABLES).returncode == 0
    env = on_path(environment(database_url=own_database_url, secret_keys=SECRET))
    env |= {"OLD_DATABASE_URL": libpq_url(empty_database_url), **exported}
    with walking(GUIDE, cwd=tmp_path, env=env, replacing={}) as walk:
        walk.paste("From FastAPI's tutorial")
        assert "1 made" in walk.paste("From FastAPI's tutorial")
        assert "2 made" in walk.paste("From fastapi-users")
        assert "2 already there" in walk.paste("From the full-stack FastAPI template")
        assert "1 made" in walk.paste("From Django")
        assert "1 made" in walk.paste("From Keycloak")
        assert "1 made" in walk.paste("From Auth0")
        (tmp_path / "auth0.ndjson").write_text(auth0_line("otto@example.com", verified=False))
        assert "1 made" in walk.paste("From Auth0")
        assert "1 made" in walk.paste("From Supabase (GoTrue)")
        assert "1 made" in walk.paste("From Firebase")
        assert "1 made" in walk.paste("From WordPress")
        assert "2 made" in walk.paste("From LDAP")
    async with (
        Runtime.open(settings_for(own_database_url)) as runtime,
        client_of(runtime) as client,
    ):
        for name, (password, scope) in CAME.items():
            answer = await login(client, Someone(uuid.uuid4(), name), password=password)
            assert answer.json().get("scope") == scope, name
