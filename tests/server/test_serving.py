"""From the listening socket to the last answer, with one process and with workers."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from app.server.serving import POLL_INTERVAL
from tests.conftest import SECRET
from tests.support.factories import PASSWORD
from tests.support.faults import OwnPostgres, proxy_to
from tests.support.postgres_programs import libpq_url
from tests.support.processes import (
    PATIENCE,
    ROOT,
    SERVE,
    environment,
    eventually,
    free_port,
    read,
    serving,
    until,
)
from tests.support.serving import BODY, begin_login, refuses_connections

pytestmark = pytest.mark.system


def test_a_port_that_is_taken_is_one_line_and_nothing_is_promised(settings: dict[str, Any]) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        done = subprocess.run(
            SERVE, cwd=ROOT, env=environment(port=port, **settings), capture_output=True, text=True
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"scopegate: can't listen on 127.0.0.1, port {port}: Address already in use\n"
    )


async def test_sigterm_under_load_answers_all_that_was_accepted(settings: dict[str, Any]) -> None:
    """And refuses none before it has said that it is not ready any more."""
    with serving(shutdown_delay=3, **settings) as service:
        async with httpx2.AsyncClient(base_url=service.url, timeout=PATIENCE) as client:
            form = {"username": "alice", "password": PASSWORD}
            token = (await client.post("/token", data=form)).json()["access_token"]
            bearer = {"Authorization": f"Bearer {token}"}
            over, answers = asyncio.Event(), []

            async def keep_asking(*request: str, **what: Any) -> None:
                while not over.is_set():
                    answers.append(await client.request(*request, **what))

            load = [
                asyncio.create_task(keep_asking("GET", "/users/me", headers=bearer)),
                asyncio.create_task(keep_asking("GET", "/items", headers=bearer)),
                asyncio.create_task(keep_asking("POST", "/token", data=form)),
            ]
            await until(lambda: len(answers) > 50)
            logins = [begin_login(service) for _ in range(5)]
            service.process.terminate()
            while (ready := await client.get("/health/ready")).status_code == 200:
                pass
            assert ready.status_code == 503
            assert ready.headers["retry-after"] == "1"
            while "close" not in answers[-1].headers.get("connection", ""):
                await asyncio.sleep(0.001)
            over.set()
            await asyncio.gather(*load)
        assert {answer.status_code for answer in answers} == {200}
        await until(lambda: refuses_connections(service))
        for login in logins:
            login.sendall(BODY)
        for login in logins:
            with login:
                assert b"200 OK" in login.recv(1000)
        assert await asyncio.to_thread(service.process.wait, PATIENCE) == 0
        assert service.complaints() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_under_way_is_finished_and_nothing_new_is_begun(
    settings: dict[str, Any], workers: int
) -> None:
    with serving([*SERVE, "--workers", str(workers)], **settings) as service:
        with begin_login(service) as login:
            service.process.terminate()
            eventually(lambda: refuses_connections(service))
            login.sendall(BODY)
            assert b"200 OK" in login.recv(1000)
        assert service.process.wait(PATIENCE) == 0
        assert service.complaints() == []


@pytest.mark.parametrize(("workers", "sent"), [(1, signal.SIGTERM), (2, signal.SIGINT)])
def test_a_second_signal_ends_it_at_once(
    settings: dict[str, Any], workers: int, sent: signal.Signals
) -> None:
    patient: dict[str, Any] = {"shutdown_timeout": 3600, "request_timeout": 3600}
    with serving([*SERVE, "--workers", str(workers)], **patient, **settings) as service:
        with begin_login(service):
            os.killpg(service.process.pid, sent)
            eventually(lambda: refuses_connections(service))
            assert service.process.poll() is None
            os.killpg(service.process.pid, sent)
            assert service.process.wait(PATIENCE) == -sent
        assert service.complaints() == []


@pytest.fixture
def hangups_count() -> Iterator[None]:
    """Where `nohup` runs the tests, what they start would ignore SIGHUP too."""
    handler = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, handler)


@pytest.mark.usefixtures("hangups_count")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_terminal_that_closes_loses_no_request(settings: dict[str, Any], workers: int) -> None:
    """The whole group hears of it, and more than once: from the kernel and from the shell."""
    patient: dict[str, Any] = {"shutdown_timeout": 3600, "request_timeout": 3600}
    with serving([*SERVE, "--workers", str(workers)], **patient, **settings) as service:
        with begin_login(service) as login:
            os.killpg(service.process.pid, signal.SIGHUP)
            eventually(lambda: refuses_connections(service))
            os.killpg(service.process.pid, signal.SIGHUP)
            time.sleep(3 * POLL_INTERVAL)
            login.sendall(BODY)
            assert b"200 OK" in login.recv(1000)
        assert service.process.wait(PATIENCE) == 0
        assert service.complaints() == []


@pytest.mark.usefixtures("hangups_count")
@pytest.mark.parametrize("workers", [1, 2])
def test_after_a_hangup_another_signal_ends_it_at_once(
    settings: dict[str, Any], workers: int
) -> None:
    patient: dict[str, Any] = {"shutdown_timeout": 3600, "request_timeout": 3600}
    with serving([*SERVE, "--workers", str(workers)], **patient, **settings) as service:
        with begin_login(service):
            service.process.send_signal(signal.SIGHUP)
            eventually(lambda: refuses_connections(service))
            service.process.terminate()
            assert service.process.wait(PATIENCE) == -signal.SIGTERM
        assert service.complaints() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_what_nohup_starts_outlives_its_terminal(settings: dict[str, Any], workers: int) -> None:
    with serving(["nohup", *SERVE, "--workers", str(workers)], **settings) as service:
        os.killpg(service.process.pid, signal.SIGHUP)
        time.sleep(3 * POLL_INTERVAL)
        with begin_login(service) as login:
            service.process.terminate()
            eventually(lambda: refuses_connections(service))
            os.killpg(service.process.pid, signal.SIGHUP)
            login.sendall(BODY)
            assert b"200 OK" in login.recv(1000)
        assert service.process.wait(PATIENCE) == 0


async def test_a_database_that_hangs_does_not_keep_it_from_ending(
    own_postgres: OwnPostgres,
) -> None:
    """Its own waits are all too long here: only what bounds the shutdown can end it."""
    settings: dict[str, Any] = dict.fromkeys(
        [f"database_{what}_timeout" for what in ("pool", "connect", "statement")], 3600
    )
    settings |= {"database_url": own_postgres.url, "secret_keys": SECRET, "shutdown_timeout": 1}
    with serving(revocation_bound=3600, **settings) as service:
        with own_postgres.stalled():
            # One more than there are connections to the database.
            logins = [begin_login(service) for _ in range(11)]
            for login in logins:
                login.sendall(BODY)
            service.process.terminate()
            for login in logins:
                with login:
                    answer = read(login)
                    assert b"503 Service Unavailable" in answer
                    assert b"temporarily_unavailable" in answer
            assert service.process.wait(PATIENCE) == 0
        assert "Traceback" not in service.output()


@pytest.mark.parametrize(
    ("workers", "number"),
    [(1, signal.SIGTERM), (2, signal.SIGTERM), (1, signal.SIGINT), (2, signal.SIGHUP)],
)
def test_the_log_says_once_when_the_shutdown_begins_and_ends(
    settings: dict[str, Any], workers: int, number: signal.Signals
) -> None:
    with serving((*SERVE, "--workers", str(workers)), **settings) as service:
        assert "shutting down" not in service.output()
        with begin_login(service) as login:
            service.process.send_signal(number)
            eventually(lambda: "shutting down" in service.output())
            assert "stopped" not in service.output()
            login.sendall(BODY)
            assert b"200 OK" in read(login)
        service.process.wait(PATIENCE)
        lines = service.output().splitlines()
    ours = [line for line in lines if "app.server.serving" in line]
    told = [word for line in ours for word in ("shutting down", "stopped") if word in line]
    assert told == ["shutting down", "stopped"]
    assert lines[-1] == ours[-1]


async def test_production_says_at_the_start_that_the_database_is_not_verified(
    own_database_url: str,
) -> None:
    async with proxy_to(own_database_url) as proxy:
        env = os.environ | {
            "SCOPEGATE_ENVIRONMENT": "production",
            "SCOPEGATE_SECRET_KEYS": SECRET,
            # No address of loopback to anything but the resolver.
            "SCOPEGATE_DATABASE_URL": libpq_url(proxy.url).replace("@127.0.0.1", "@127.1"),
            "SCOPEGATE_PORT": str(free_port()),
        }
        process = await asyncio.create_subprocess_exec(
            *SERVE, cwd=ROOT, env=env, stdout=PIPE, stderr=STDOUT
        )
        assert process.stdout
        written: list[str] = []
        async with asyncio.timeout(PATIENCE):
            while not written or "serving at" not in written[-1]:
                written.append((await process.stdout.readline()).decode())
                assert written[-1], written
        process.terminate()
        await process.communicate()
    (warning,) = [line for line in written if "sslmode=verify-full" in line]
    assert "SCOPEGATE_DATABASE_URL does not verify 127.1" in warning
    assert '"level": "warning"' in warning
