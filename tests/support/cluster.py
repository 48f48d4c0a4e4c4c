"""A primary with a standby, to be killed, stalled and promoted; a publisher with a subscriber."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg

from app.db.embedded_server import (
    NAME,
    environment,
    hand_on,
    make_own,
    programs_within_reach,
    server_user_prefix,
)
from app.db.engine import create_engine
from app.db.migrating import upgrade
from app.db.url import normalise_url
from app.settings import Settings
from tests.support.faults import signal_server
from tests.support.processes import PATIENCE, free_port

PUBLISHED = (
    "users, scopes, grants, clients, consents, sessions, browser_sessions, authorization_codes, "
    "opaque_tokens, personal_tokens, account_links, sign_ups, signing_keys"
)


class Node:
    """One server, on loopback."""

    def __init__(self, data: Path, programs: Path) -> None:
        self.data = data
        self._programs = programs
        make_own(data)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, *more: str) -> None:
        """Start it, with more settings if given, and wait until it can be asked."""
        settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", f"port={self.port}"]
        settings += ["shared_buffers=32MB", "fsync=off", *more]
        options = [option for setting in settings for option in ("-c", setting)]
        self._process = subprocess.Popen(
            [*self._program("postgres"), *options],
            env=environment(),
            stderr=subprocess.DEVNULL,
            close_fds=False,
        )
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(OSError, asyncpg.PostgresError):
                    await self.execute("SELECT 1")
                    return
                await asyncio.sleep(0.02)

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs on this server's data."""
        subprocess.run(
            [*self._program(program), *arguments],
            env=environment(),
            check=True,
            capture_output=True,
            close_fds=False,
        )

    def _program(self, name: str) -> list[str]:
        return [*server_user_prefix(), str(self._programs / name), "-D", hand_on(self.data)]

    async def connect(self, database: str = NAME) -> asyncpg.Connection:
        """A connection to this server, whatever it is."""
        return await asyncpg.connect(
            host="127.0.0.1", port=self.port, user=NAME, database=database, timeout=PATIENCE
        )

    async def execute(self, statement: str, database: str = "postgres") -> None:
        """Have it do something outside of a transaction."""
        connection = await self.connect(database)
        await connection.execute(statement)
        await connection.close()

    async def configure(self, setting: str) -> None:
        """Set something in all its sessions, those that are open too."""
        await self.execute(f"ALTER SYSTEM SET {setting}")
        await self.execute("SELECT pg_reload_conf()")

    @property
    def url(self) -> str:
        """The URL of this server alone."""
        return f"postgresql://{NAME}@127.0.0.1:{self.port}/{NAME}"

    async def promote(self) -> None:
        """Make the standby the primary; on return it takes writes."""
        await self.execute("SELECT pg_promote()")

    def copy(self, primary: "Node") -> None:
        """Make this the standby of a primary, with a copy of its data."""
        shutil.rmtree(self.data, ignore_errors=True)
        make_own(self.data)
        where = ["-h", "127.0.0.1", "-p", str(primary.port), "-U", NAME]
        self.run("pg_basebackup", *where, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")

    def end(self, number: signal.Signals) -> None:
        """Signal the postmaster, and wait until it has ended."""
        process, self._process = self._process, None
        assert process is not None
        postmaster = int((self.data / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, number)
        process.wait(PATIENCE)

    def kill(self) -> None:
        """`kill -9` all of it, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            signal_server(process.pid, signal.SIGKILL)
            process.wait()

    def stall(self) -> None:
        """Let none of its processes run."""
        assert self._process is not None
        signal_server(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let them all run again."""
        assert self._process is not None
        signal_server(self._process.pid, signal.SIGCONT)


@asynccontextmanager
async def primary_and_standby(folder: Path) -> AsyncIterator[tuple[Node, Node, str]]:
    """Both, migrated, and a URL that names both. A commit waits until the standby has it."""
    async with _cluster(folder) as (primary, standby):
        await primary.start()
        await primary.execute(f"CREATE DATABASE {NAME}")
        standby.copy(primary)
        await standby.start()
        await primary.configure("synchronous_standby_names = '*'")
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        url = f"postgresql://{NAME}@{hosts}/{NAME}"
        await _migrate(url)
        yield primary, standby, url


@asynccontextmanager
async def publisher_and_subscriber(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """The URLs of two migrated databases: the second subscribes to the first.

    Published are the tables that decide what a token is worth. What migrations put there is in both
    from the start.
    """
    async with _cluster(folder) as (node, _):
        await node.start("wal_level=logical")
        urls = []
        for name in (NAME, "subscriber"):
            await node.execute(f"CREATE DATABASE {name}")
            urls.append(f"postgresql://{NAME}@127.0.0.1:{node.port}/{name}")
            await _migrate(urls[-1])
        await node.execute(f"CREATE PUBLICATION everything FOR TABLE {PUBLISHED}", NAME)
        # Not by CREATE SUBSCRIPTION, which would wait for itself: both are in one cluster.
        await node.execute("SELECT pg_create_logical_replication_slot('copy', 'pgoutput')", NAME)
        await node.execute(
            f"CREATE SUBSCRIPTION copy CONNECTION '{urls[0]}' PUBLICATION everything "
            "WITH (create_slot = false, copy_data = false)",
            "subscriber",
        )
        yield urls[0], urls[1]


@asynccontextmanager
async def _cluster(folder: Path) -> AsyncIterator[tuple[Node, Node]]:
    """Two servers: the first has its data, the second none yet. Both end with the block."""
    with programs_within_reach(folder) as programs:
        nodes = Node(folder / "one", programs), Node(folder / "two", programs)
        options = ["--auth=trust", f"--username={NAME}", "--no-sync", "--no-instructions"]
        nodes[0].run("initdb", *options)
        try:
            yield nodes
        finally:
            for node in nodes:
                node.kill()


async def _migrate(url: str) -> None:
    engine = create_engine(normalise_url(url), Settings(_env_file=None))
    await upgrade(engine)
    await engine.dispose()
