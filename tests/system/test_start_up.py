"""Commands as processes of their own: what starts, and what is refused in one line."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import PIPE

import httpx2
import pytest
from sqlalchemy import make_url

from tests.conftest import SECRET
from tests.support.commands import Environment
from tests.support.faults import OwnPostgres
from tests.support.processes import SERVE, environment, free_port


async def run(*arguments: str, **settings: str) -> tuple[int | None, str, str]:
    """The command as an operator runs it: a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "app",
        *arguments,
        stdout=PIPE,
        stderr=PIPE,
        env={"PATH": os.environ["PATH"], **settings},
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"SCOPEGATE_ENVIRONMENT": "production"}, "SCOPEGATE_SECRET_KEYS is not set"),
        (
            {"SCOPEGATE_ENVIRONMENT": "production", "SCOPEGATE_SECRET_KEYS": "changeme"},
            "SCOPEGATE_SECRET_KEYS: a secret of 8 characters is too weak",
        ),
        (
            {"SCOPEGATE_ENVIRONMENT": "production", "SCOPEGATE_SECRET_KEYS": SECRET},
            "SCOPEGATE_DATABASE_URL is not set",
        ),
        ({"SCOPEGATE_PORT": "many"}, "SCOPEGATE_PORT: "),
        ({"SCOPEGATE_ISSUER": "auth.example"}, "SCOPEGATE_ISSUER: the issuer is a URL"),
        ({"SCOPEGATE_TRUSTED_PROXIES": "10.0.0.1/8"}, "SCOPEGATE_TRUSTED_PROXIES: 10.0.0.1/8 has"),
        ({"SCOPEGATE_DATABASE_URL": "mysql://x"}, "must name Postgres"),
        (
            {
                "SCOPEGATE_DATABASE_URL": "postgresql://u@127.0.0.1:1/n",
                "SCOPEGATE_DATABASE_WAIT": "0",
            },
            "the database does not answer",
        ),
    ],
)
async def test_start_up_refuses_with_one_clear_line(
    settings: dict[str, str], complaint: str
) -> None:
    code, out, err = await run("serve", **settings)
    assert (code, out) == (1, "")
    assert err.startswith("scopegate: ")
    assert complaint in err
    assert err.count("\n") == 1
    assert SECRET not in err


async def test_a_database_that_does_not_answer_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        code, _, err = await run(
            *("user", "list"),
            SCOPEGATE_DATABASE_URL=f"postgresql://u@127.0.0.1:{port}/n",
            SCOPEGATE_DATABASE_STATEMENT_TIMEOUT="0.5",
        )
    assert (code, err) == (1, "scopegate: the database does not answer: TimeoutError\n")


async def test_serve_waits_for_a_database_says_for_what_and_then_serves(
    own_postgres: OwnPostgres,
) -> None:
    await own_postgres.stop()
    issuer = "https://example.com/a/b"
    settings = {"database_url": own_postgres.url, "secret_keys": SECRET, "database_wait": 600}
    settings["issuer"] = issuer
    process = await asyncio.create_subprocess_exec(
        *SERVE, stderr=PIPE, stdout=PIPE, env=environment(port=free_port(), **settings)
    )
    assert process.stderr
    assert process.stdout
    try:
        said = (await process.stderr.readline()).decode()
        assert said.startswith("scopegate: waiting up to 600 s: the database does not answer")
        await own_postgres.resume()
        line = await process.stdout.readline()
        served = f"serving at {issuer}, console at {issuer}/console, documentation at {issuer}/docs"
        assert served in line.decode()
    finally:
        process.terminate()
        await process.communicate()


async def test_serve_does_not_wait_where_waiting_does_not_help(own_database_url: str) -> None:
    elsewhere = make_url(own_database_url).set(database="no_such_database")
    code, _, err = await run(
        "serve",
        SCOPEGATE_DATABASE_URL=elsewhere.render_as_string(hide_password=False),
        SCOPEGATE_DATABASE_WAIT="600",
    )
    assert code == 1
    assert err.startswith("scopegate: the database refuses: ")


async def test_serve_refuses_a_database_that_was_never_migrated(empty_database_url: str) -> None:
    code, _, err = await run(
        "serve", SCOPEGATE_DATABASE_URL=empty_database_url, SCOPEGATE_SECRET_KEYS=SECRET
    )
    said = "scopegate: The database is not migrated to this version: run scopegate migrate first\n"
    assert (code, err) == (1, said)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_serve_answers_and_ends_cleanly_on_sigterm(
    environment: Environment, own_database_url: str, unused_tcp_port: int, workers: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "app",
        "serve",
        "--workers",
        workers,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "SCOPEGATE_PORT": str(unused_tcp_port)},
    )
    assert process.stdout
    url = f"http://127.0.0.1:{unused_tcp_port}"
    line = (await process.stdout.readline()).decode()
    assert url in line
    await until_answers(f"{url}/health/ready")
    process.terminate()
    _, err = await process.communicate()
    assert "Traceback" not in err.decode()


async def until_answers(url: str) -> None:
    """Wait until the service answers 200; the test's own deadline is the limit."""
    async with asyncio.timeout(60), httpx2.AsyncClient() as client:
        while True:
            try:
                if (await client.get(url)).status_code == 200:
                    return
            except httpx2.TransportError:
                await asyncio.sleep(0.05)


async def test_what_serving_does_without_is_not_loaded() -> None:
    """Alembic is for who migrates, the list of common passwords for who chooses one."""
    code = "import sys, app.cli, app.main; print(*{'alembic', 'zxcvbn'} & sys.modules.keys())"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=PIPE)
    out, _ = await process.communicate()
    assert (process.returncode, out) == (0, b"\n")
