"""The database URL, as people and hosters write it."""

import asyncio
import secrets
import socket
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url, text

from app.db.engine import PING, connect_apart, create_engine
from app.db.primary import Primary
from app.db.url import normalise_url, shown_url, unproven_servers
from app.errors import ConfigurationError
from app.ops.doctor import _unproven_servers
from tests.conftest import settings_for
from tests.support.faults import proxy_to
from tests.support.postgres_programs import libpq_url
from tests.support.processes import PATIENCE


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("postgres://u@h/n", "postgresql+asyncpg://u@h/n"),
        ("postgresql://u:p@h:5433/n", "postgresql+asyncpg://u:p@h:5433/n"),
        ("postgresql+asyncpg://u@h/n", "postgresql+asyncpg://u@h/n"),
        ("postgresql+psycopg://u@h/n", "postgresql+asyncpg://u@h/n"),
        (
            "postgres://u@h/n?sslmode=require&channel_binding=prefer&gssencmode=disable",
            "postgresql+asyncpg://u@h/n?ssl=require",
        ),
        ("postgresql://u:p,w@h/n", "postgresql+asyncpg://u:p%2Cw@h/n"),
        (
            "postgresql://u:a,b,c@h:1/n?sslmode=allow",
            "postgresql+asyncpg://u:a%2Cb%2Cc@h:1/n?ssl=allow",
        ),
        ("postgresql://u:p,w/x@h/n", "postgresql+asyncpg://u:p%2Cw%2Fx@h/n"),
        ("postgresql://u:p/w,x@h:1/n", "postgresql+asyncpg://u:p%2Fw%2Cx@h:1/n"),
        ("postgresql://u:p,w?x@h/n", "postgresql+asyncpg://u:p%2Cw%3Fx@h/n"),
        ("postgresql://u:1,2/3@h/n", "postgresql+asyncpg://u:1%2C2%2F3@h/n"),
        ("postgresql://u:,@h/n", "postgresql+asyncpg://u:%2C@h/n"),
        (
            "postgresql://u@a,b:2/n?application_name=x@y",
            "postgresql+asyncpg://u@/n?dsn=postgresql%3A%2F%2F%3Fapplication_name%3Dx%2540y"
            "&host=a%2Cb&port=5432%2C2",
        ),
        ("postgresql://u:p,w@/n?host=/run/pg", "postgresql+asyncpg://u:p%2Cw@/n?host=%2Frun%2Fpg"),
        (
            "postgresql://u:p,@a:1,b/n?target_session_attrs=primary",
            "postgresql+asyncpg://u:p%2C@/n?host=a%2Cb&port=1%2C5432&target_session_attrs=primary",
        ),
        (
            "postgres://[::1]:1,[::2]/n",
            "postgresql+asyncpg:///n?host=%3A%3A1%2C%3A%3A2&port=1%2C5432",
        ),
        ("postgres://u@/n?host=a,b", "postgresql+asyncpg://u@/n?host=a%2Cb&port=5432%2C5432"),
        ("postgres://u@/n?host=a,b&port=1", "postgresql+asyncpg://u@/n?host=a%2Cb&port=1%2C1"),
        ("postgres://u@/n?host=a&host=b", "postgresql+asyncpg://u@/n?host=b"),
        ("POSTGRESQL://U@H/N", "postgresql+asyncpg://U@H/N"),
        ("Postgres://u:A://B@h/n", "postgresql+asyncpg://u:A%3A%2F%2FB@h/n"),
        ("postgresql+ASYNCPG://u@h:65535/n", "postgresql+asyncpg://u@h:65535/n"),
        ("postgresql://u@bücher.example:1/n", "postgresql+asyncpg://u@bücher.example:1/n"),
        ("postgresql://u@db.example./n", "postgresql+asyncpg://u@db.example./n"),
        ("postgresql://u@db_1/n", "postgresql+asyncpg://u@db_1/n"),
        ("postgresql://u@[fe80::1%eth0]/n", "postgresql+asyncpg://u@[fe80::1%eth0]/n"),
        ("postgresql:///n", "postgresql+asyncpg:///n"),
        ("postgresql://a%2Cb@h/n", "postgresql+asyncpg://a%2Cb@h/n"),
        ("postgresql://a%3Db:p@h/n", "postgresql+asyncpg://a%3Db:p@h/n"),
    ],
)
def test_urls_are_made_fit_for_asyncpg(given: str, normal: str) -> None:
    assert normalise_url(given).render_as_string(hide_password=False) == normal


def test_a_password_from_elsewhere_fills_in_but_does_not_replace() -> None:
    assert normalise_url("postgresql://u@h/n", "p@:/").password == "p@:/"
    assert normalise_url("postgresql://u:mine@h/n", "other").password == "mine"


def test_options_that_asyncpg_does_not_know_are_named() -> None:
    with pytest.raises(ConfigurationError, match="bogus, keepalives"):
        normalise_url("postgresql://u@h/n?connect_timeout=3&keepalives=1&bogus=1")


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("channel_binding=require", "demands channel_binding"),
        ("gssencmode=require", "demands gssencmode"),
        ("sslmode=verify_full", "sslmode that is none of"),
        ("ssl=true", "sslmode that is none of"),
        ("sslmode=verify-full&sslrootcert=/no/file", "sslrootcert=/no/file"),
        ("sslmode=verify-full&sslrootcert=system", "sslrootcert=system, which .* name the system"),
        ("target_session_attrs=bogus", "none of any, primary, standby, prefer-standby, read-write"),
        ("target_session_attrs=read_write", "target_session_attrs that are none of"),
        ("sslcert=/tmp", "sslcert=/tmp"),
        ("sslkey=/no/key", "sslkey=/no/key"),
        ("sslcrl=/no/crl", "sslcrl=/no/crl"),
        ("connect_timeout=0", "connect_timeout"),
        ("connect_timeout=soon", "connect_timeout"),
        ("require_auth=scram-sha-256", "require_auth"),
    ],
)
def test_an_option_that_can_not_be_honoured_is_refused_by_name(option: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as caught:
        normalise_url(f"postgresql://u:hunter2@h/n?{option}")
    assert "hunter2" not in str(caught.value)


async def test_options_of_a_connection_are_honoured(own_database_url: str) -> None:
    options = {"application_name": "a & b", "search_path": "elsewhere"}
    options["options"] = "-c work_mem=5MB"
    given = make_url(libpq_url(own_database_url)).update_query_dict(
        options | {"connect_timeout": "7"}
    )
    url = normalise_url(given.render_as_string(hide_password=False))
    settings = settings_for(own_database_url)
    engine = create_engine(url, settings)
    asked = "SELECT current_setting('application_name'), current_setting('search_path'), "
    asked += "current_setting('work_mem'), current_setting('timezone')"
    async with engine.connect() as connection:
        found = tuple((await connection.execute(text(asked))).one())
    assert found == ("a & b", "elsewhere", "5MB", "UTC")
    apart = await connect_apart(url, settings, Primary().find, purpose=" changes")
    assert tuple(await apart.fetchrow(asked)) == ("a & b changes", "elsewhere", "5MB", "UTC")
    await apart.close()
    await engine.dispose()


async def test_a_connect_timeout_in_the_url_bounds_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        given = f"postgresql://u@127.0.0.1:{deaf.getsockname()[1]}/n?connect_timeout=1"
        settings = settings_for(given, database_connect_timeout=600)
        engine = create_engine(normalise_url(given), settings)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(TimeoutError):
                async with engine.connect():
                    pass
            with pytest.raises(TimeoutError):
                await connect_apart(
                    normalise_url(given), settings, Primary().find, purpose=" changes"
                )
        await engine.dispose()


@pytest.mark.parametrize(
    ("url", "unproven"),
    [
        ("postgresql://u@db.example/n", ["db.example"]),
        ("postgresql://u@db.example/n?sslmode=require", ["db.example"]),
        ("postgresql://u@a,127.0.0.1,[::1],localhost,b/n", ["a", "b"]),
        ("postgresql://u@/n?host=/run/postgresql", []),
        ("postgresql://u@/n?host=10.0.0.1", ["10.0.0.1"]),
        ("postgresql://u@db.example/n?sslmode=verify-full", []),
        ("postgresql://u@db.example/n?sslmode=verify-ca", []),
        (f"postgresql://u@db.example/n?sslmode=require&sslrootcert={__file__}", []),
        (f"postgresql://u@db.example/n?sslmode=prefer&sslrootcert={__file__}", ["db.example"]),
    ],
)
def test_production_names_the_hosts_that_tls_does_not_prove(url: str, unproven: list[str]) -> None:
    production = {"environment": "production", "secret_keys": secrets.token_urlsafe(48)}
    settings = settings_for(url, **production)
    expected = {"SCOPEGATE_DATABASE_URL": unproven} if unproven else {}
    assert unproven_servers(settings) == expected
    assert unproven_servers(settings_for(url)) == {}
    warned = [each for each in _unproven_servers(settings) if each.state == "warning"]
    assert len(warned) == len(expected)


def test_no_secret_of_a_url_is_shown() -> None:
    url = normalise_url("postgresql://u:hunter2@h/n?sslpassword=hunter3&sslmode=require")
    assert shown_url(url) == "postgresql://u:***@h/n?ssl=require"


@pytest.mark.parametrize(
    "given",
    [
        "postgresql://u:hunter2@h:abc/n",
        "postgresql://u:hunter2@a:1,b:x/n",
        "postgresql://u:hunter2@a,,b/n",
        "mysql://u:hunter2@h/n",
        "MYSQL://u:hunter2@h/n",
        "postgresql://u:hunter2@h/n\udcff",
        "hunter2",
        "",
    ],
)
def test_other_urls_are_refused_without_repeating_them(given: str) -> None:
    with pytest.raises(ConfigurationError, match="SCOPEGATE_DATABASE_URL") as caught:
        normalise_url(given)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        *[(f"h:{port}/n", "port") for port in ("65536", "99999", "-1", "0", "00")],
        ("127.0.0.1:99999/n", "port"),
        ("[::1]:70000/n", "port"),
        ("a:1,b:65536/n", "port"),
        ("a:0,b/n", "port"),
        *[(f"/n?host=h&port={port}", "port") for port in ("70000", "0", "-5", "x", "1.5", "%2B1")],
        ("/n?host=a,b&port=1,99999", "port"),
        ("/n?port=99999", "port"),
        *[(f"{host}/n", "host") for host in ("a..b", "a" * 300, ".a", "a.b..", f"{'ü' * 60}.a")],
        (f"{'a.' * 200}a/n", "host"),
        ("a%20b,a..b:1/n", "host"),
        *[
            (f"/n?host={host}", "host")
            for host in ("a..b", "a,b..c", "a:1", "[::1]", "%00", "a%20b")
        ],
        ("/n?host=/run/%00", "host"),
        ("h/n%00", "NUL"),
        ("h/n?application_name=a%00", "NUL"),
    ],
)
def test_a_part_that_no_connection_can_be_made_with_is_refused_by_its_kind(
    given: str, what: str
) -> None:
    with pytest.raises(
        ConfigurationError, match=f"^SCOPEGATE_LISTEN_DATABASE_URL has a {what}"
    ) as caught:
        normalise_url(f"postgresql://u:hunter2@{given}", setting="SCOPEGATE_LISTEN_DATABASE_URL")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("user", ["we%2Cird", "a,b", "%2c"])
def test_a_user_that_the_driver_cant_sign_in_by_password_is_refused(user: str) -> None:
    for given, password in ((f"{user}:hunter2", None), (user, "hunter2")):
        with pytest.raises(ConfigurationError, match="has a user with a comma") as caught:
            normalise_url(f"postgresql://{given}@h/n", password)
        assert "hunter2" not in str(caught.value)


async def test_a_connection_that_did_not_answer_in_time_is_not_waited_for_again(
    own_database_url: str,
) -> None:
    """Its ROLLBACK would take as long again."""
    settings = settings_for(own_database_url, database_statement_timeout=0.2)
    engine = create_engine(normalise_url(own_database_url), settings)
    async with engine.connect() as connection:
        with pytest.raises(TimeoutError):
            await connection.execute(text("SELECT pg_sleep(60)"))
        assert connection.invalidated
    await engine.dispose()


@pytest.mark.parametrize(("trusted_for", "asked"), [(3600.0, 0), (0.0, 1)])
async def test_a_connection_is_asked_whether_it_lives_only_after_it_was_idle(
    own_database_url: str, monkeypatch: pytest.MonkeyPatch, trusted_for: float, asked: int
) -> None:
    monkeypatch.setattr("app.db.engine.TRUSTED_FOR", trusted_for)
    engine = create_engine(normalise_url(own_database_url), settings_for(own_database_url))
    pings = 0
    execute = asyncpg.Connection.execute

    async def counted(connection: Any, query: str, *args: Any, **how: Any) -> Any:
        nonlocal pings
        pings += query == PING
        return await execute(connection, query, *args, **how)

    monkeypatch.setattr(asyncpg.Connection, "execute", counted)
    for _ in range(2):
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    assert pings == asked
    await engine.dispose()


@pytest.mark.parametrize("trusted_for", [3600.0, 0.0])
async def test_connections_that_ended_are_replaced(
    own_database_url: str, monkeypatch: pytest.MonkeyPatch, trusted_for: float
) -> None:
    """All of them, however lately they were used: Postgres was restarted, say."""
    monkeypatch.setattr("app.db.engine.TRUSTED_FOR", trusted_for)
    engine = create_engine(normalise_url(own_database_url), settings_for(own_database_url))
    backend = text("SELECT pg_backend_pid()")
    async with engine.connect() as one, engine.connect() as other:
        before = {await one.scalar(backend), await other.scalar(backend)}
        drivers = [(await each.get_raw_connection()).driver_connection for each in (one, other)]
    apart = await asyncpg.connect(libpq_url(own_database_url))
    for each in before:
        await apart.execute("SELECT pg_terminate_backend($1)", each)
    await apart.close()
    while trusted_for and not all(each.is_closed() for each in drivers if each):
        await asyncio.sleep(0.01)
    async with engine.connect() as one, engine.connect() as other:
        after = {await one.scalar(backend), await other.scalar(backend)}
    assert len(before) == len(after) == 2
    assert not before & after
    await engine.dispose()


@pytest.mark.parametrize("trusted_for", [3600.0, 0.0])
async def test_of_connections_that_lead_nowhere_any_more_one_is_waited_for(
    own_database_url: str, monkeypatch: pytest.MonkeyPatch, trusted_for: float
) -> None:
    """Whatever else the pool made before goes with it, and none is said goodbye to."""
    monkeypatch.setattr("app.db.engine.TRUSTED_FOR", trusted_for)
    monkeypatch.setattr("app.db.engine.PING_TIMEOUT", 0.2)
    waits, goodbyes = 0, 0
    close = asyncpg.Connection.close

    async def counted(connection: Any, **how: Any) -> None:
        nonlocal goodbyes
        goodbyes += not connection.is_closed()
        await close(connection, **how)

    monkeypatch.setattr(asyncpg.Connection, "close", counted)
    async with proxy_to(own_database_url) as proxy:
        settings = settings_for(own_database_url, database_statement_timeout=1)
        engine = create_engine(normalise_url(proxy.url), settings)
        async with AsyncExitStack() as stack:
            for _ in range(5):
                connection = await stack.enter_async_context(engine.connect())
                await connection.execute(text("SELECT 1"))
        proxy.lose()
        for _ in range(5):
            try:
                async with engine.connect() as connection:
                    await connection.execute(text("SELECT 1"))
            except TimeoutError:
                waits += 1
        assert (waits, goodbyes) == (1 if trusted_for else 0, 0)
        await engine.dispose()
