"""One machine of a Patroni cluster: its Postgres, Patroni and PgBouncer, as processes."""

import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx2

from app.settings import PROJECT
from tests.support.faults import signal_server
from tests.support.processes import PATIENCE

CONFIGURATION = PROJECT / "deploy" / "patroni"
PROGRAMS = ("patroni", "etcd", "haproxy", "pgbouncer")
NAME = "scopegate"
PASSWORD = "a-password-for-the-tests-only"
NODES = ("pg1", "pg2", "pg3")
# Below the ports that the kernel gives to clients: a node must find its own free when it returns.
PORTS = range(15_000, 32_000)
PATIENT_FOR = 5.0
"""Seconds for a node to answer: a frozen one never does."""
POLL = 0.1
"""Seconds between two looks at who leads."""


def find(program: str) -> str | None:
    """Where a program is, in `sbin` too, where Debian keeps daemons."""
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")


def postgres_programs() -> Path | None:
    """The folder of the newest Postgres' programs."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: int(each.parts[4]))
    return folders[-1] if folders else None


class Daemon:
    """A program that runs as `postgres` (or as this user, who is not root), logging to a file."""

    def __init__(self, name: str, folder: Path, command: list[str], env: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._folder = folder
        self._command = command
        self._env = env
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its output is appended to the log."""
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **self._env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **user,
            )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, and wait until it has ended."""
        process, self.process = self.process, None
        if process is not None:
            if process.poll() is None:
                process.send_signal(number)
            process.wait(PATIENCE)


class Node:
    """One Patroni with its Postgres."""

    def __init__(self, name: str, folder: Path, etcd_port: int, *, etcd3: bool = False) -> None:
        self.name = name
        self.port, self._api = free_ports(2)
        self.data = folder / name
        programs = postgres_programs()
        assert programs is not None
        configuration = (CONFIGURATION / "patroni.yml").read_text()
        file = folder / f"{name}.yml"
        file.write_text(
            replaced(
                configuration,
                {
                    "unix_socket_directories: /run/postgresql": "unix_socket_directories: ''",
                    # A machine with a watchdog would be reset by a fault.
                    "mode: automatic": "mode: 'off'",
                },
            )
        )
        at, api = f"127.0.0.1:{self.port}", f"127.0.0.1:{self._api}"
        env = {
            "PATRONI_NAME": name,
            "PATRONI_ETCD_HOSTS": f"'127.0.0.1:{etcd_port}'",
            "PATRONI_RESTAPI_LISTEN": api,
            "PATRONI_RESTAPI_CONNECT_ADDRESS": api,
            "PATRONI_POSTGRESQL_LISTEN": at,
            "PATRONI_POSTGRESQL_CONNECT_ADDRESS": at,
            "PATRONI_POSTGRESQL_DATA_DIR": str(self.data),
            "PATRONI_POSTGRESQL_BIN_DIR": str(programs),
            "PATRONI_POSTGRESQL_PGPASS": str(folder / f"{name}.pgpass"),
            "PATRONI_SUPERUSER_USERNAME": "postgres",
            "PATRONI_SUPERUSER_PASSWORD": PASSWORD,
            "PATRONI_REPLICATION_USERNAME": "replicator",
            "PATRONI_REPLICATION_PASSWORD": PASSWORD,
        }
        unknown = env.keys() ^ dict(_assignments((CONFIGURATION / "node.env").read_text())).keys()
        assert not unknown, f"node.env and the test set different variables: {unknown}"
        if etcd3:
            env["PATRONI_ETCD3_HOSTS"] = env.pop("PATRONI_ETCD_HOSTS")
        self.patroni = Daemon(name, folder, ["/usr/bin/patroni", str(file)], env)
        self._client = httpx2.AsyncClient(base_url=f"http://{api}", timeout=PATIENT_FOR)

    @property
    def api(self) -> int:
        """The port of Patroni's own API."""
        return self._api

    async def members(self) -> list[dict[str, Any]]:
        """What Patroni knows of all nodes, from etcd; nothing where it does not answer."""
        with suppress(httpx2.TransportError, ValueError, KeyError):
            members: list[dict[str, Any]] = (await self._client.get("/cluster")).json()["members"]
            return members
        return []

    async def ask(self, method: str, path: str, what: object) -> httpx2.Response:
        """Have Patroni do something."""
        return await self._client.request(method, path, json=what, timeout=PATIENCE)

    async def connect(self, user: str = NAME, database: str = NAME) -> asyncpg.Connection:
        """Return a connection to this node, whatever it is."""
        return await asyncpg.connect(
            host="127.0.0.1",
            port=self.port,
            user=user,
            password=PASSWORD,
            database=database,
            timeout=PATIENT_FOR,
            command_timeout=PATIENT_FOR,
        )

    def kill(self) -> None:
        """`kill -9` Patroni and Postgres, as if the machine lost power."""
        postmaster = self.postmaster()
        self.patroni.end(signal.SIGKILL)
        if postmaster is not None:
            signal_server(postmaster, signal.SIGKILL)

    def freeze(self) -> None:
        """Stop Patroni and Postgres where they are: no connection closes, nothing answers."""
        self.patroni.send(signal.SIGSTOP)
        self.signal_postgres(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let both run again."""
        self.signal_postgres(signal.SIGCONT)
        self.patroni.send(signal.SIGCONT)

    def postmaster(self) -> int | None:
        """The process id of this node's Postgres; None where it does not run."""
        try:
            found = int((self.data / "postmaster.pid").read_text().split()[0])
            arguments = Path(f"/proc/{found}/cmdline").read_bytes()
        except (OSError, ValueError, IndexError):
            return None
        # The file outlives a killed server, and its process id may be another process' by now.
        return found if str(self.data).encode() in arguments else None

    def signal_postgres(self, number: signal.Signals) -> None:
        """Send a signal to all of its Postgres' processes, if it runs."""
        postmaster = self.postmaster()
        if postmaster is not None:
            signal_server(postmaster, number)

    async def close(self) -> None:
        """End it for good."""
        self.thaw()
        self.kill()
        await self._client.aclose()


def replaced(text: str, where: Mapping[str, str]) -> str:
    """The text with every key replaced by its value. Raises AssertionError for one not found."""
    for old, new in where.items():
        assert old in text, f"not in the configuration: {old}"
        text = text.replace(old, new)
    return text


def free_ports(count: int) -> list[int]:
    """So many ports on which nobody listens, all different."""
    chosen: list[int] = []
    while len(chosen) < count:
        port = random.choice(PORTS)  # noqa: S311 - any will do
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in chosen:
                chosen.append(port)
    return chosen


def _assignments(text: str) -> list[tuple[str, str]]:
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]
