"""A primary with a streaming standby, to be killed, stalled and promoted."""

import asyncio
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
from app.db.engine import create_engine, normalise_url
from app.db.migrating import upgrade
from app.settings import Settings
from tests.faults import signal_server
from tests.processes import PATIENCE, free_port


class Node:
    """One server, on loopback."""

    def __init__(self, data: Path, programs: Path) -> None:
        self.data = data
        self._programs = programs
        make_own(data)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, and wait until it can be asked."""
        settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", f"port={self.port}"]
        settings += ["shared_buffers=32MB", "fsync=off"]
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

    async def promote(self) -> None:
        """Make the standby the primary; on return it takes writes."""
        await self.execute("SELECT pg_promote()")

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
    with programs_within_reach(folder) as programs:
        primary, standby = Node(folder / "one", programs), Node(folder / "two", programs)
        options = ["--auth=trust", f"--username={NAME}", "--no-sync", "--no-instructions"]
        primary.run("initdb", *options)
        try:
            await primary.start()
            await primary.execute(f"CREATE DATABASE {NAME}")
            where = ["-h", "127.0.0.1", "-p", str(primary.port), "-U", NAME]
            options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
            standby.run("pg_basebackup", *where, *options)
            await standby.start()
            await primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            await primary.execute("SELECT pg_reload_conf()")
            hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
            url = f"postgresql://{NAME}@{hosts}/{NAME}"
            engine = create_engine(normalise_url(url), Settings(_env_file=None))
            await upgrade(engine)
            await engine.dispose()
            yield primary, standby, url
        finally:
            for node in (primary, standby):
                node.kill()
