"""The service under a role that owns nothing: it can do its work, and no more."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from app.db.base import Base
from app.db.engine import create_engine
from app.db.migrating import upgrade
from app.db.rights import RESTRICTED_RIGHTS, grant_rights
from app.db.url import normalise_url
from app.ops.housekeeping import prune
from app.runtime import Runtime
from tests.conftest import client_of, following, settings_for
from tests.support.factories import PASSWORD, bearer, login, make_user


@dataclass(frozen=True)
class Roles:
    """A database with an owner and a role that serves, as URLs."""

    owner: str
    service: str


@pytest.fixture
async def roles(empty_database_url: str) -> AsyncIterator[Roles]:
    given = make_url(empty_database_url)
    names = [f"{kind}_{uuid.uuid4().hex[:8]}" for kind in ("owner", "service")]
    as_admin = create_engine(normalise_url(empty_database_url), settings_for(empty_database_url))
    async with as_admin.begin() as connection:
        for name in names:
            await connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'"))
        await connection.execute(text(f'ALTER DATABASE "{given.database}" OWNER TO {names[0]}'))
    urls = [
        given.set(username=name, password="secret").render_as_string(hide_password=False)
        for name in names
    ]
    owner = create_engine(normalise_url(urls[0]), settings_for(urls[0]))
    await upgrade(owner)
    async with owner.begin() as connection:
        await grant_rights(connection, names[1])
    await owner.dispose()
    yield Roles(*urls)
    async with as_admin.begin() as connection:
        for name in names:
            await connection.execute(text(f"DROP OWNED BY {name} CASCADE"))
    async with as_admin.begin() as connection:
        await connection.execute(text(f'ALTER DATABASE "{given.database}" OWNER TO CURRENT_USER'))
        for name in names:
            await connection.execute(text(f"DROP OWNED BY {name} CASCADE"))
            await connection.execute(text(f"DROP ROLE {name}"))
    await as_admin.dispose()


async def test_a_role_that_owns_nothing_serves(roles: Roles) -> None:
    settings = settings_for(roles.service)
    async with Runtime.open(settings) as runtime:
        user = await make_user(runtime, "admin")
        async with client_of(runtime) as client:
            assert (await login(client, user, password="wrong")).status_code == 400
            headers = await bearer(client, user)
            made = await client.post("/items", json={"title": "Lamp"}, headers=headers)
            assert made.status_code == 201
            other = {"username": "another", "password": PASSWORD}
            made = await client.post("/users", json=other, headers=headers)
            assert made.status_code == 201
            path = f"/users/{made.json()['id']}"
            for answer in (
                await client.put(f"{path}/grants/read:items", headers=headers),
                await client.patch(path, json={"disabled": True}, headers=headers),
                await client.put("/scopes/more", json={"description": "More"}, headers=headers),
                await client.delete("/scopes/more", headers=headers),
                await client.get("/audit", headers=headers),
            ):
                assert answer.is_success, answer.text
        # The audit entries are young: those alone stay.
        now, kept = runtime.now() + timedelta(days=400), timedelta()
        audit_kept = timedelta(days=500)
        assert await prune(runtime.sessions, now=now, kept=kept, audit_kept=audit_kept)
        # The change feed surveys, beats and looks at the triggers.
        async with following(runtime), runtime.engine.connect() as connection:
            every = [f"SELECT count(*) FROM {name}" for name in Base.metadata.tables]
            for statement in every:
                await connection.execute(text(statement))


MAY_NOT = [
    "TRUNCATE audit_entries",
    "UPDATE audit_entries SET detail = '{}'",
    "DELETE FROM audit_entries",
    "ALTER TABLE audit_entries DISABLE TRIGGER ALL",
    "DROP TRIGGER never_rewritten ON audit_entries",
    "SET session_replication_role = replica",
    "CREATE TABLE another (n int)",
    "DROP TABLE items",
    "TRUNCATE users CASCADE",
    "UPDATE alembic_version SET version_num = '0001'",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
]


async def test_a_role_that_owns_nothing_can_do_no_more_than_serve(roles: Roles) -> None:
    engine = create_engine(normalise_url(roles.service), settings_for(roles.service))
    entry = "INSERT INTO audit_entries (id, action, detail) VALUES (gen_random_uuid(), 'x', '{}')"
    async with engine.begin() as connection:
        await connection.execute(text(entry))
    for statement in MAY_NOT:
        with pytest.raises(DBAPIError, match=r"permission denied|must be owner|append-only|days"):
            async with engine.begin() as connection:
                await connection.execute(text(statement))
    await engine.dispose()


async def test_rights_that_are_no_longer_needed_are_taken_back(roles: Roles) -> None:
    owner = create_engine(normalise_url(roles.owner), settings_for(roles.owner))
    name = make_url(roles.service).username
    asked = text(
        "SELECT has_table_privilege(:role, :name, 'UPDATE') OR "
        "has_table_privilege(:role, :name, 'TRUNCATE')"
    )
    async with owner.begin() as connection:
        for table in RESTRICTED_RIGHTS:
            await connection.execute(text(f"GRANT ALL ON {table} TO {name}"))
        await grant_rights(connection, str(name))
        for table in RESTRICTED_RIGHTS:
            assert not await connection.scalar(asked, {"role": name, "name": table})
    with pytest.raises(ProgrammingError, match="does not exist"):
        async with owner.begin() as connection:
            await grant_rights(connection, "no such role")
    await owner.dispose()
