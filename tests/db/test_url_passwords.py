"""Passwords with characters that a URL has uses for, at a Postgres that asks for them."""

from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from app.db.engine import connect_apart, open_engine
from app.db.primary import Primary
from app.runtime import listen_url
from tests.conftest import settings_for
from tests.support.faults import OwnPostgres
from tests.support.postgres_programs import psql

PASSWORDS = ["a,b", ",", "a,b,c", "a,b/c", "1,2/3", "a b", "p%w", "p#w", "p?w,x", "ä,€"]
QUOTED = ["a@b,c", "100%25,", "[::1],", "a:b@c/d?e#f,g"]


@pytest.fixture
async def asking(own_postgres: OwnPostgres, tmp_path: Path) -> str:
    """A server that asks the role `writer` for its password."""
    rules = tmp_path / "home" / "pg" / "pg_hba.conf"
    rules.write_text("local all writer scram-sha-256\n" + rules.read_text())
    statement = "CREATE ROLE writer LOGIN SUPERUSER"
    assert psql(own_postgres.url, statement).returncode == 0
    assert psql(own_postgres.url, "SELECT pg_reload_conf()").returncode == 0
    return own_postgres.url


async def whoami(**settings: object) -> list[str]:
    """The role in each of the two ways to the database."""
    configured = settings_for(**settings)  # type: ignore[arg-type]
    async with open_engine(configured) as engine:
        async with engine.connect() as connection:
            pooled = str(await connection.scalar(text("SELECT current_user")))
        url = listen_url(engine, configured)
        apart = await connect_apart(url, configured, Primary().find, purpose=" changes")
        found = str(await apart.fetchval("SELECT current_user"))
        await apart.close()
    return [pooled, found]


async def test_a_password_may_hold_what_a_url_has_uses_for(asking: str) -> None:
    where = make_url(asking)
    rest = f"/{where.database}?host={where.query['host']}&port={where.query['port']}"
    for password in PASSWORDS + QUOTED:
        escaped = password.replace("'", "''")
        assert psql(asking, f"ALTER ROLE writer PASSWORD '{escaped}'").returncode == 0
        written = [quote(password, safe="")] + ([password] if password in PASSWORDS else [])
        for each in written:
            url = f"postgresql://writer:{each}@{rest}"
            assert await whoami(database_url=url) == ["writer", "writer"], each
        # A setting of its own takes every password as it is.
        url = f"postgresql://writer@{rest}"
        assert await whoami(database_url=url, database_password=password) == ["writer"] * 2
        with pytest.raises(DBAPIError, match="password authentication failed"):
            await whoami(database_url=url, database_password=password + "x")


async def test_a_user_may_have_any_character_but_a_comma(asking: str, tmp_path: Path) -> None:
    where = make_url(asking)
    rest = f"/{where.database}?host={where.query['host']}&port={where.query['port']}"
    rules = tmp_path / "home" / "pg" / "pg_hba.conf"
    for name in ("a=b", "=2C", "a@b:c/d", "ä €%"):
        rules.write_text(f'local all "{name}" scram-sha-256\n' + rules.read_text())
        statement = f"CREATE ROLE \"{name}\" LOGIN SUPERUSER PASSWORD 'secret'"
        assert psql(asking, statement).returncode == 0
        assert psql(asking, "SELECT pg_reload_conf()").returncode == 0
        url = f"postgresql://{quote(name, safe='')}:secret@{rest}"
        assert await whoami(database_url=url) == [name, name]
        with pytest.raises(DBAPIError, match="password authentication failed"):
            await whoami(database_url=url.replace(":secret@", ":wrong@"))
