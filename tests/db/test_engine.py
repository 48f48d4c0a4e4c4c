"""The database URL, as people and hosters write it."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from app.db.engine import PING, create_engine, normalise_url
from app.errors import ConfigurationError
from tests.conftest import settings_for
from tests.faults import proxy_to
from tests.postgres_programs import libpq_url


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("postgres://u@h/n", "postgresql+asyncpg://u@h/n"),
        ("postgresql://u:p@h:5433/n", "postgresql+asyncpg://u:p@h:5433/n"),
        ("postgresql+asyncpg://u@h/n", "postgresql+asyncpg://u@h/n"),
        ("postgresql+psycopg://u@h/n", "postgresql+asyncpg://u@h/n"),
        (
            "postgres://u@h/n?sslmode=require&channel_binding=require",
            "postgresql+asyncpg://u@h/n?ssl=require",
        ),
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
    ],
)
def test_urls_are_made_fit_for_asyncpg(given: str, normal: str) -> None:
    assert normalise_url(given).render_as_string(hide_password=False) == normal


def test_a_password_from_elsewhere_fills_in_but_does_not_replace() -> None:
    assert normalise_url("postgresql://u@h/n", "p@:/").password == "p@:/"
    assert normalise_url("postgresql://u:mine@h/n", "other").password == "mine"


def test_options_that_asyncpg_does_not_know_are_named() -> None:
    with pytest.raises(ConfigurationError, match="bogus, connect_timeout"):
        normalise_url("postgresql://u@h/n?connect_timeout=3&bogus=1")


@pytest.mark.parametrize(
    "given",
    [
        "postgresql://u:hunter2@h:abc/n",
        "postgresql://u:hunter2@a:1,b:x/n",
        "postgresql://u:hunter2@a,,b/n",
        "mysql://u:hunter2@h/n",
        "hunter2",
        "",
    ],
)
def test_other_urls_are_refused_without_repeating_them(given: str) -> None:
    with pytest.raises(ConfigurationError, match="SCOPEGATE_DATABASE_URL") as caught:
        normalise_url(given)
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
