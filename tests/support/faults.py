"""Faults, really caused: a Postgres server to stop and stall, and a network that swallows bytes."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from sqlalchemy import URL, make_url

from app.db.embedded import EmbeddedPostgres
from app.db.engine import create_engine
from app.db.migrating import upgrade
from app.db.url import normalise_url
from app.settings import Settings
from tests.support.processes import free_port

PGBOUNCER = os.environ.get("SCOPEGATE_TEST_PGBOUNCER", "pgbouncer")


class OwnPostgres:
    """A server that one test has for itself, migrated, to be stopped, started and stalled."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._share = EmbeddedPostgres.start(home)
        self.url = self._share.url

    @classmethod
    async def start(cls, home: Path) -> "OwnPostgres":
        """The server, with a migrated database."""
        server = await asyncio.to_thread(cls, home)
        engine = create_engine(normalise_url(server.url), Settings(_env_file=None))
        await upgrade(engine)
        await engine.dispose()
        return server

    async def stop(self, *, immediately: bool = False) -> None:
        """Shut the server down, as `pg_ctl stop --mode=fast` does, and wait until it is gone.

        `immediately` is like a crash: the next start recovers from the log.
        """
        os.kill(self._postmaster(), signal.SIGQUIT if immediately else signal.SIGINT)
        await asyncio.to_thread(self._share.release)

    async def resume(self) -> None:
        """Start the server again."""
        self._share = await asyncio.to_thread(EmbeddedPostgres.start, self._home)

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """The server hangs meanwhile: it takes connections and bytes, and says nothing."""
        self.stall()
        try:
            yield
        finally:
            self.go_on()

    def stall(self) -> None:
        """Let none of its processes run, until they are to `go_on`."""
        signal_server(self._postmaster(), signal.SIGSTOP)

    def go_on(self) -> None:
        """Let them all run again."""
        signal_server(self._postmaster(), signal.SIGCONT)

    def _postmaster(self) -> int:
        return int((self._home / "pg" / "postmaster.pid").read_text().split()[0])


def signal_server(postmaster: int, number: signal.Signals) -> None:
    """Send a signal to every process of a server: each leads a group of its own."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    for process in (postmaster, *map(int, children)):
        with suppress(ProcessLookupError):
            os.kill(process, number)


@dataclass
class Proxy:
    """A way to Postgres that can be cut, or swallow every byte without closing anything."""

    url: str
    _upstreams: Iterator[URL]
    _connections: set[asyncio.Task[None]]
    _flows: asyncio.Event

    def lead_to(self, *urls: str) -> None:
        """Let each new connection lead to the next of these servers in turn."""
        self._upstreams = cycle([make_url(url) for url in urls])

    def swallow(self) -> None:
        """From now on nothing comes through, and nobody is told."""
        self._flows.clear()

    def heal(self) -> None:
        """New connections come through again, and so do the bytes that were held."""
        self._flows.set()

    def lose(self) -> None:
        """What is connected leads nowhere from now on, and nobody is told; new connections do."""
        self._flows.clear()
        self._flows = asyncio.Event()
        self._flows.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._join(reader, writer))
        self._connections.add(task)
        # Here and not in the task: one that is cancelled at once never runs.
        task.add_done_callback(lambda _: writer.close())
        task.add_done_callback(self._connections.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            flows = self._flows
            there, back = await connect_plainly(next(self._upstreams))
            with closing(back):
                await asyncio.gather(
                    self._pump(reader, back, flows), self._pump(there, writer, flows)
                )

    @staticmethod
    async def _pump(
        source: asyncio.StreamReader, sink: asyncio.StreamWriter, flows: asyncio.Event
    ) -> None:
        try:
            with suppress(ConnectionError):
                while block := await source.read(65536):
                    await flows.wait()
                    sink.write(block)
                    await sink.drain()
        finally:
            sink.close()

    async def _end(self) -> None:
        # What was just accepted has its task a few turns of the loop later.
        await asyncio.sleep(0.01)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


@asynccontextmanager
async def proxy_to(url: str) -> AsyncIterator[Proxy]:
    """A proxy on loopback before the server of this URL."""
    upstream = make_url(url)
    proxy = Proxy("", cycle([upstream]), set(), asyncio.Event())
    proxy.heal()
    server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    through = upstream.set(host="127.0.0.1", port=port, query={})
    proxy.url = through.render_as_string(hide_password=False)
    try:
        yield proxy
    finally:
        server.close()
        await proxy._end()


@asynccontextmanager
async def pgbouncer_before(
    url: str, *, connections: int = 1, prepared: int | None = None, lifetime: int = 3600
) -> AsyncIterator[str]:
    """A real PgBouncer, pooling transactions over so many server connections; the URL through it.

    `prepared` is its `max_prepared_statements`, which PgBouncer has from 1.21 on. With a `lifetime`
    of 0 each transaction is given a new server connection.
    """
    port = free_port()
    # By the proxy, because the embedded server's socket is in a folder of ours alone.
    async with proxy_to(url) as proxy:
        upstream = make_url(proxy.url)
        where = f"host=127.0.0.1 port={upstream.port} user={upstream.username}"
        if upstream.password:
            where += f" password={upstream.password}"
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            configuration = Path(folder, "pgbouncer.ini")
            configuration.write_text(
                f"[databases]\n{upstream.database} = {where}\n"
                f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
                "unix_socket_dir =\nauth_type = any\npool_mode = transaction\n"
                f"default_pool_size = {connections}\nserver_lifetime = {lifetime}\n"
                + (f"max_prepared_statements = {prepared}\n" if prepared is not None else "")
            )
            user = ["-u", "nobody"] if os.geteuid() == 0 else []
            process = await asyncio.create_subprocess_exec(
                *(PGBOUNCER, *user, str(configuration)), stderr=asyncio.subprocess.DEVNULL
            )
            try:
                async with asyncio.timeout(60):
                    while not await _accepts(port):
                        await asyncio.sleep(0.02)
                yield upstream.set(port=port).render_as_string(hide_password=False)
            finally:
                process.terminate()
                await process.wait()


def prepared_by_pgbouncer() -> list[int | None]:
    """The values of `max_prepared_statements` that this PgBouncer knows; None: it knows none."""
    if not shutil.which(PGBOUNCER):
        return [None]
    told = subprocess.run([PGBOUNCER, "--version"], capture_output=True, text=True, check=True)
    version = told.stdout.split()[1].split(".")
    return [0, 200] if (int(version[0]), int(version[1])) >= (1, 21) else [None]


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    return True


async def connect_plainly(url: URL) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the server of this URL, byte by byte."""
    folder = url.query.get("host")
    if isinstance(folder, str):
        return await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{url.query['port']}")
    return await asyncio.open_connection(url.host, url.port)
