"""Workers: told once, replaced, and gone with their parent; memory that is given back."""

import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.main import create_app
from app.server.serving import POLL_INTERVAL, STOP_SIGNALS, _supervise
from tests.conftest import settings_for
from tests.support.factories import PASSWORD
from tests.support.processes import (
    PATIENCE,
    SERVE,
    eventually,
    resident,
    serving,
)
from tests.support.serving import refuses_connections, workers_of

pytestmark = pytest.mark.system
HASH_BYTES = 19 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc, and Linux' /proc")
@pytest.mark.parametrize("workers", [1, 2])
def test_what_hashing_has_taken_is_given_back(settings: dict[str, Any], workers: int) -> None:
    scraper = "a-token-for-whoever-scrapes-0123456789"
    command = [*SERVE, "--workers", str(workers)]
    with serving(command, metrics_token=scraper, **settings) as service:

        def all_serve() -> bool:
            header = {"Authorization": f"Bearer {scraper}"}
            metrics = httpx2.get(f"{service.url}/metrics", headers=header).text
            return workers == 1 or all(f'worker="{n}"' in metrics for n in range(workers))

        # One that is still starting would weigh too little.
        eventually(all_serve)
        processes = workers_of(service) or [service.process.pid]
        before = {process: resident(process) for process in processes}

        def sign_in(_: int) -> int:
            form = {"username": "alice", "password": PASSWORD}
            return httpx2.post(f"{service.url}/token", data=form, timeout=PATIENCE).status_code

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(sign_in, range(24))) == {200}
        assert any(resident(each, "VmHWM") > before[each] + HASH_BYTES for each in processes)
        eventually(lambda: all(resident(each) < before[each] + HASH_BYTES for each in processes))


def count_signals(*_: object) -> None:
    """A worker that takes its time to end, and writes down how often it was told to."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    written = Path(os.environ["TOLD"])
    written.write_text("")
    while not told:
        time.sleep(POLL_INTERVAL)
    time.sleep(5 * POLL_INTERVAL)
    written.write_text(str(len(told)))


def test_a_worker_is_told_to_end_once_however_long_it_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is on its own at its very end, with no handler left: a signal would cut it short there."""
    written = tmp_path / "told"
    monkeypatch.setenv("TOLD", str(written))
    monkeypatch.setattr("app.server.serving._work", count_signals)
    handlers = {each: signal.getsignal(each) for each in STOP_SIGNALS}

    def stop() -> None:
        eventually(written.exists)
        os.kill(os.getpid(), signal.SIGTERM)

    try:
        with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
            stopped = pool.submit(stop)
            _supervise(1, listener, settings_for("postgresql://u@127.0.0.1:1/n"), create_app)
            stopped.result()
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
    assert written.read_text() == "1"


def runs(process: int) -> bool:
    """Whether it does: what nobody has waited for yet runs no more."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_worker_that_is_killed_is_replaced_and_none_outlives_its_parent(
    settings: dict[str, Any],
) -> None:
    with serving([*SERVE, "--workers", "2"], **settings) as service:
        before = workers_of(service)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        eventually(lambda: len(workers_of(service)) == 2 and before[0] not in workers_of(service))
        assert service.is_ready()
        workers = workers_of(service)
        service.process.kill()
        service.process.wait(PATIENCE)
        eventually(lambda: not any(map(runs, workers)))
        assert refuses_connections(service)


def test_a_worker_that_replaces_another_has_the_settings_of_the_others(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """What was changed since counts from the next start on, for all of them at once."""
    env_file = tmp_path / ".env"
    env_file.write_text("SCOPEGATE_ISSUER=http://first.example")
    with serving([*SERVE, "--workers", "2"], cwd=tmp_path, **settings) as service:
        env_file.write_text("SCOPEGATE_ISSUER=http://second.example")
        eventually(lambda: len(workers_of(service)) == 2)
        for worker in workers_of(service):
            os.kill(worker, signal.SIGKILL)
        eventually(service.is_ready)
        found = httpx2.get(f"{service.url}/.well-known/openid-configuration").json()
    assert found["issuer"] == "http://first.example"
