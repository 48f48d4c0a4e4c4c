"""Scopegate as real processes: started, waited for and ended the way an operator does it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import httpx2

ROOT = Path(__file__).parents[2]
SERVE = (sys.executable, "-m", "app", "serve")
PATIENCE = 120.0  # seconds: a deadline against hanging, not a budget


@dataclass(frozen=True)
class Service:
    """A process that serves at `url`; it leads a process group of its own."""

    url: str
    process: subprocess.Popen[bytes]
    _output: IO[bytes]

    def output(self) -> str:
        """All that was written so far, to stdout and stderr."""
        written = self._output.fileno()
        return os.pread(written, os.fstat(written).st_size, 0).decode()

    def complaints(self) -> list[str]:
        """What was written beside requests, what they did, and where it serves."""
        return [line for line in self.output().splitlines() if "[info " not in line]

    def terminate(self) -> None:
        """Ask the process to end, and wait until it has."""
        self.process.terminate()
        self.process.wait(PATIENCE)

    def interrupt(self) -> None:
        """Press Ctrl-C: that reaches the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(PATIENCE)

    def kill(self) -> None:
        """`kill -9` the whole group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def connect(self) -> socket.socket:
        """A connection to it, to be used byte by byte."""
        address = urlsplit(self.url)
        return socket.create_connection((address.hostname, address.port), PATIENCE)

    def is_ready(self) -> bool:
        """Whether it answers; it must not have ended."""
        assert self.process.poll() is None, self.output()
        try:
            return httpx2.get(f"{self.url}/health/ready").status_code == 200
        except httpx2.TransportError:
            return False


@contextmanager
def serving(
    command: Sequence[str | Path] = SERVE, cwd: Path = ROOT, **settings: object
) -> Iterator[Service]:
    """The service, ready, with these settings and a port of its own; ended by SIGTERM."""
    settings.setdefault("port", free_port())
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        service = Service(f"http://127.0.0.1:{settings['port']}", process, output)
        try:
            eventually(service.is_ready)
            yield service
            if process.poll() is None:
                service.terminate()
            assert "Traceback" not in service.output(), service.output()
        finally:
            if process.poll() is None:
                service.kill()


async def command(*arguments: str, stdin: str = "", **settings: object) -> str:
    """What a `scopegate` command prints, with these settings; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", *arguments),
        env=environment(**settings),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(stdin.encode())
    assert process.returncode == 0
    return output.decode()


def read(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    received = b""
    try:
        while block := connection.recv(65536):
            received += block
    except ConnectionResetError:
        pass
    return received


def environment(**settings: object) -> dict[str, str]:
    """This process's environment, with `port=8001` as SCOPEGATE_PORT and so on."""
    return os.environ | {
        f"SCOPEGATE_{name.upper()}": str(value) for name, value in settings.items()
    }


def children_of(parent: int, word: str = "") -> list[int]:
    """The processes that this process has started, if the word is in their command."""
    ps = ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="]
    listed = subprocess.run(ps, stdout=subprocess.PIPE, text=True, check=True)
    processes = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
    return [int(pid) for pid, ppid, args in processes if int(ppid) == parent and word in args]


def resident(process: int, what: str = "VmRSS") -> int:
    """Bytes of memory that a process has now; `VmHWM` is the most that it ever had."""
    status = Path(f"/proc/{process}/status").read_text()
    return 1024 * int(status.partition(f"{what}:")[2].split()[0])


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def eventually(condition: Callable[[], object]) -> None:
    """Wait until it comes true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


async def until(condition: Callable[[], object]) -> None:
    """Wait until it comes true, in a test that runs on the event loop."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)
