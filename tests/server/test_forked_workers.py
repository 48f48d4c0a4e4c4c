"""Workers on Linux are forked: what they share with their parent, and what they must not share."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import SpawnProcess
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from app.server.serving import _process_class
from tests.support.processes import ROOT, SERVE, children_of, command, eventually, serving
from tests.support.serving import workers_of

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are spawned"),
]

OBSERVED = r"""
import gc, json, os, random, secrets, sys
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from passlib.hash import argon2
from uuid_utils.compat import uuid7
import app.main
from app.cli import main

key = ec.generate_private_key(ec.SECP256R1())
hasher = argon2.using(rounds=1, memory_cost=8, parallelism=1)
create_app = app.main.create_app

def draw():
    # Of a UUIDv7, what is not the time; of a signature, what stands for its one-time secret.
    return {
        "jitter": random.random(),
        "id": uuid7().int % 2**62,
        "token": secrets.token_hex(),
        "signature": utils.decode_dss_signature(key.sign(b"", ec.ECDSA(SHA256())))[0],
        "salt": hasher.hash("secret"),
    }

def examined(by_collections):
    return any(each is by_collections for each in gc.get_objects())

def observed(settings, worker=None):
    if worker is None:
        app.main.made_by = [os.getpid()]
        assert not examined(vars(app.main))
    else:
        found = {
            "made_by": app.main.made_by,
            "collects": gc.isenabled(),
            "examines": examined(app.main.made_by),
            "drawn": [draw() for _ in range(3)],
        }
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
    return create_app(settings, worker)

draw()  # the parent too: what it has drawn from must not be drawn from by its children
app.main.create_app = observed
main()
"""
"""`scopegate`, whose workers write down what they find when they build the app."""


def test_workers_share_what_is_imported_and_draw_no_random_value_twice(
    settings: dict[str, Any],
) -> None:
    """The first ones, and one that replaces another."""
    scopegate = [sys.executable, "-c", OBSERVED, "serve", "--workers", "3"]
    with serving(scopegate, **settings) as service:

        def found() -> list[dict[str, Any]]:
            lines = service.output().splitlines()
            return [json.loads(line) for line in lines if line.startswith("{")]

        eventually(lambda: len(found()) == 3)
        os.kill(workers_of(service)[0], signal.SIGKILL)
        eventually(lambda: len(found()) == 4)
        # A collection that looked at what the parent has made would write to its pages, and so
        # copy them.
        for each in found():
            assert each["made_by"] == [service.process.pid]
            assert (each["collects"], each["examines"]) == (True, False)
        drawn = [draw for each in found() for draw in each["drawn"]]
    for kind in drawn[0]:
        assert len({each[kind] for each in drawn}) == len(drawn), kind


async def test_no_other_thread_runs_where_workers_are_forked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With all that runs threads at some time: the embedded Postgres is started in one."""
    monkeypatch.delenv("SCOPEGATE_DATABASE_URL", raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    await command("migrate", home=tmp_path)
    with serving([*SERVE, "--workers", "2"], home=tmp_path) as service:
        assert len(workers_of(service)) == 2
        assert children_of(service.process.pid, "spawn_main") == []
        assert len(list(Path(f"/proc/{service.process.pid}/task").iterdir())) == 1


def test_beside_another_thread_a_worker_is_spawned() -> None:
    """What a team adds may start one when it is imported: a fork could block for ever."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(_process_class).result() is SpawnProcess


SIGNALLED = """
import os, signal, socket
from pathlib import Path
from app.server.serving import _start_worker
from app.server.workers import Worker
from app.settings import Settings

def make_app(*_):
    raise SystemExit

signal.signal(signal.SIGTERM, lambda *_: None)
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))
with socket.create_server(("127.0.0.1", 0)) as listener:
    worker = _start_worker(listener, Settings(), make_app, Worker(Path(), 0))
    worker.join()
print(worker.exitcode)
"""


def test_a_worker_that_is_told_to_end_as_soon_as_it_is_forked_ends() -> None:
    """Its parent tells it once. At first it has its parent's handler, which ends nothing."""
    done = subprocess.run([sys.executable, "-c", SIGNALLED], cwd=ROOT, capture_output=True)
    assert int(done.stdout) == -signal.SIGTERM, done.stderr.decode()


LOGGED = """
import fcntl, logging, os, socket
from pathlib import Path
import app.ops.log_output
from app.ops.logging import configure_logging
from app.server.serving import _start_worker
from app.server.workers import Worker
from app.settings import Settings

def make_app(*_):
    logging.info("of the worker")
    os.write(2, b"logged\\n")
    raise SystemExit

app.ops.log_output.PATIENCE = 60
configure_logging(Settings())
os.write(1, b"-" * fcntl.fcntl(1, fcntl.F_GETPIPE_SZ))
logging.info("of the parent")
os.register_at_fork(after_in_child=lambda: os.write(2, b"forked\\n"))
with socket.create_server(("127.0.0.1", 0)) as listener:
    _start_worker(listener, Settings(), make_app, Worker(Path(), 0)).join()
"""
"""Whoever reads what it prints has stopped reading, so that all lines wait."""


@pytest.mark.parametrize("reading_from", [b"forked\n", b"logged\n"])
def test_each_line_of_a_parent_and_of_its_worker_is_logged_once(reading_from: bytes) -> None:
    """Also lines that wait while the worker is forked, and while it ends."""
    command = [sys.executable, "-c", LOGGED]
    with subprocess.Popen(command, cwd=ROOT, stdout=PIPE, stderr=PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert reading_from in iter(process.stderr.readline, b"")
        lines = process.stdout.read().splitlines()
        process.stderr.read()
    assert [b"of the parent" in line for line in lines].count(True) == 1
    assert [b"of the worker" in line for line in lines].count(True) == 1


KEPT = """
import gc
from app.server.memory import kept_for_good

with kept_for_good():
    assert not gc.isenabled()
    kept = []
after = []
print(gc.isenabled(), *(any(each is it for each in gc.get_objects()) for it in (kept, after)))
"""


def test_what_is_imported_is_not_looked_at_by_collections() -> None:
    done = subprocess.run([sys.executable, "-c", KEPT], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == b"True False True\n"
