"""A Patroni cluster on loopback: etcd, three nodes, HAProxy and PgBouncer, from Debian's packages.

The configuration is that of `deploy/patroni`, with ports and paths replaced. Every process is ended
by its own id.
"""

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import httpx2
import pytest

from app.db.engine import DATABASE_GONE, create_engine
from app.db.migrating import upgrade
from app.db.url import normalise_url
from app.settings import Settings
from tests.support.processes import PATIENCE
from tests.system.cluster.node import (
    CONFIGURATION,
    NAME,
    NODES,
    PASSWORD,
    POLL,
    PROGRAMS,
    Daemon,
    Node,
    find,
    free_ports,
    postgres_programs,
    replaced,
)


def missing_programs() -> list[str]:
    """The programs that this machine lacks, in Debian's names."""
    missing = [program for program in PROGRAMS if not find(program)]
    return missing if postgres_programs() else [*missing, "postgresql"]


CLUSTER = [
    pytest.mark.cluster,
    pytest.mark.long,
    pytest.mark.skipif(
        bool(missing_programs()) and not os.environ.get("CI"),
        reason=f"Debian's packages are not installed: {', '.join(missing_programs())}",
    ),
]
"""The marks of a module of tests that bring up a cluster."""


class Cluster:
    """The whole bed. `leaders` is who has been seen to lead, from when on.

    Over the v3 API of etcd, Patroni 3.0 lets a leader that was frozen take the lock back, which
    loses what its successor acknowledged.
    """

    def __init__(self, folder: Path, *, etcd3: bool = False) -> None:
        self._folder = folder
        client, peer, self.haproxy_port, self.pgbouncer_port = free_ports(4)
        self.etcd = Daemon("etcd", folder, _etcd_command(folder, client, peer), {})
        self._etcd_port = client
        self.nodes = [Node(name, folder, client, etcd3=etcd3) for name in NODES]
        self.haproxy = Daemon("haproxy", folder, self._haproxy_command(), {})
        self.pgbouncer = Daemon("pgbouncer", folder, self._pgbouncer_command(), {})
        self.watching: asyncio.Task[None] | None = None
        self.leaders: list[tuple[float, Node, int]] = []
        """When each was first seen to lead (`time.monotonic`), and its timeline."""

    def url(self, way: str) -> dict[str, str]:
        """The settings that lead a replica to the cluster by `haproxy`, `hosts` or `pgbouncer`."""
        user = f"postgresql://{NAME}:{PASSWORD}"
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        several = f"{user}@{hosts}/{NAME}"
        if way == "hosts":
            return {"database_url": several}
        if way == "haproxy":
            return {"database_url": f"{user}@127.0.0.1:{self.haproxy_port}/{NAME}"}
        through = f"{user}@127.0.0.1:{self.pgbouncer_port}/{NAME}"
        return {"database_url": through, "listen_database_url": several}

    async def start(self) -> None:
        """Start all, and wait until the cluster is whole and migrated."""
        self.etcd.start()
        await eventually(self._etcd_answers, self.etcd)
        for node in self.nodes:
            node.patroni.start()
        await eventually(self.is_whole, *(node.patroni for node in self.nodes))
        superuser = await self.leader.connect("postgres", "postgres")
        await superuser.execute(f"CREATE ROLE {NAME} LOGIN PASSWORD '{PASSWORD}'")
        await superuser.execute(f"CREATE DATABASE {NAME} OWNER {NAME}")
        await superuser.close()
        self.haproxy.start()
        self.pgbouncer.start()
        engine = create_engine(normalise_url(self.url("hosts")["database_url"]), Settings())
        await upgrade(engine)
        await engine.dispose()
        await eventually(self._pgbouncer_answers, self.haproxy, self.pgbouncer)

    async def watch(self) -> None:
        """Note who leads, until cancelled."""
        await asyncio.gather(*(self._watch(node) for node in self.nodes))

    async def _watch(self, node: Node) -> None:
        while True:
            with suppress(*DATABASE_GONE):
                connection = await node.connect("postgres", "postgres")
                try:
                    while True:
                        timeline = await connection.fetchval(TIMELINE)
                        newest = max((each for _, _, each in self.leaders), default=0)
                        if timeline > newest:
                            self.leaders.append((time.monotonic(), node, timeline))
                        await asyncio.sleep(POLL)
                finally:
                    connection.terminate()
            await asyncio.sleep(POLL)

    @property
    def leader(self) -> Node:
        """The newest leader that was seen. Raises what ended the watch, if it has ended."""
        if self.watching is not None and self.watching.done():
            self.watching.result()
        return self.leaders[-1][1]

    async def is_whole(self) -> bool:
        """Whether one node leads, two stream from it, and etcd names one of them as synchronous.

        Postgres waits for a synchronous standby a little before etcd names it. A leader that is
        lost in between has no successor: Patroni waits for its return.
        """
        if not self.leaders:
            return False
        members = await self.leader.members()
        roles = sorted(member["role"] for member in members if member["state"] in RUNNING)
        # Etcd keeps a node that died for Patroni's ttl: Postgres knows who is really there.
        with suppress(*DATABASE_GONE):
            connection = await self.leader.connect("postgres", "postgres")
            try:
                streaming = await connection.fetchval(STREAMING)
            finally:
                connection.terminate()
            return roles == ["leader", "replica", "sync_standby"] and streaming == len(NODES) - 1
        return False

    async def heal(self) -> None:
        """Start what does not run, and wait until the cluster is whole."""
        if self.etcd.process is None:
            self.etcd.start()
        for node in self.nodes:
            if node.patroni.process is None:
                node.patroni.start()
        try:
            await eventually(self.is_whole, self.etcd, *(node.patroni for node in self.nodes))
        except TimeoutError:
            states = {node.name: await node.members() for node in self.nodes}
            raise AssertionError(f"the cluster is not whole: {self.leaders} {states}") from None

    async def synchronous_standby(self) -> Node:
        """Return the standby that every commit waits for."""
        members = await self.leader.members()
        (name,) = (each["name"] for each in members if each["role"] == "sync_standby")
        return next(node for node in self.nodes if node.name == name)

    async def connect(self) -> asyncpg.Connection:
        """Return a connection to the leader."""
        return await self.leader.connect()

    async def end(self) -> None:
        """End every process, whatever state it is in."""
        self.pgbouncer.end()
        self.haproxy.end()
        for node in self.nodes:
            await node.close()
        self.etcd.end()

    def _haproxy_command(self) -> list[str]:
        configuration = (CONFIGURATION / "haproxy.cfg").read_text()
        where = {f"{n.name}:5432 check port 8008": _checked(n) for n in self.nodes}
        where["bind :5000"] = f"bind 127.0.0.1:{self.haproxy_port}"
        file = self._folder / "haproxy.cfg"
        file.write_text(replaced(configuration, where))
        return [str(find("haproxy")), "-db", "-f", str(file)]

    def _pgbouncer_command(self) -> list[str]:
        userlist = self._folder / "userlist.txt"
        userlist.write_text(f'"{NAME}" "{PASSWORD}"\n')
        where = {
            "host=haproxy port=5000": f"host=127.0.0.1 port={self.haproxy_port}",
            "listen_addr = *": "listen_addr = 127.0.0.1",
            "listen_port = 6432": f"listen_port = {self.pgbouncer_port}",
            "/etc/pgbouncer/userlist.txt": str(userlist),
        }
        file = self._folder / "pgbouncer.ini"
        file.write_text(replaced((CONFIGURATION / "pgbouncer.ini").read_text(), where))
        return [str(find("pgbouncer")), str(file)]

    async def _etcd_answers(self) -> bool:
        async with httpx2.AsyncClient() as client:
            with suppress(httpx2.TransportError):
                url = f"http://127.0.0.1:{self._etcd_port}/health"
                return (await client.get(url)).status_code == 200
        return False

    async def _pgbouncer_answers(self) -> bool:
        with suppress(*DATABASE_GONE):
            connection = await asyncpg.connect(
                normal_dsn(self.url("pgbouncer")["database_url"]), timeout=5
            )
            await connection.close()
            return True
        return False


# Zero at a standby, which refuses `pg_current_wal_lsn`.
TIMELINE = """
SELECT CASE WHEN pg_is_in_recovery() THEN 0
    ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END
"""
STREAMING = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
RUNNING = {"running", "streaming"}
"""How Patroni calls what works: newer versions tell the second of standbys."""


@asynccontextmanager
async def patroni_cluster(folder: Path, *, etcd3: bool = False) -> AsyncIterator[Cluster]:
    """Run a migrated cluster in this folder; everything ends with the block."""
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    folder.chmod(0o750)
    cluster = Cluster(folder, etcd3=etcd3)
    for file in folder.iterdir():
        file.chmod(0o644)
    watch = cluster.watching = asyncio.create_task(cluster.watch())
    try:
        await cluster.start()
        yield cluster
    except BaseException:
        _show_logs(folder)
        raise
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await cluster.end()


async def eventually(condition: Callable[[], Awaitable[bool]], *daemons: Daemon) -> None:
    """Wait until it comes true. Raises AssertionError when one of the daemons ends instead."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            for daemon in daemons:
                ended = daemon.process is not None and daemon.process.poll() is not None
                assert not ended, f"{daemon.name} ended: {daemon.log.read_text()[-2000:]}"
            await asyncio.sleep(POLL)


def normal_dsn(url: str) -> str:
    """The URL as asyncpg understands it."""
    return url.replace("postgresql+asyncpg", "postgresql")


def _checked(node: Node) -> str:
    return f"127.0.0.1:{node.port} check port {node.api}"


def _etcd_command(folder: Path, client: int, peer: int) -> list[str]:
    clients, peers = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    return [
        str(find("etcd")),
        *("--name", "etcd", "--data-dir", str(folder / "etcd"), "--logger", "zap"),
        *("--listen-client-urls", clients, "--advertise-client-urls", clients),
        *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
        *("--initial-cluster", f"etcd={peers}"),
        "--enable-v2",
    ]


def _show_logs(folder: Path) -> None:
    for log in sorted(folder.glob("*.log")):
        print(f"== {log.name}\n{log.read_text()[-3000:]}", file=sys.stderr)
