"""The embedded PostgreSQL, with real processes that really share it, crash and get killed."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from tests.support.embedded import (
    USE_UNTIL_TOLD,
    ask,
    leave,
    on_linux,
    parent_of,
    postmaster,
    server_runs,
    started,
    url_from,
    using_process,
)
from tests.support.processes import PATIENCE, eventually

pytestmark = pytest.mark.system


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
