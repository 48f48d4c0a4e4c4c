"""Servers as processes: started, waited for, looked at and ended."""

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bench.errors import BenchmarkFailed
from bench.wire import HOST, Connection, request

ROOT = Path(__file__).parents[1]
OURS = sys.executable
PEERS = str(ROOT / ".venv-bench" / "bin" / "python")
PORT = "{port}"
START_OR_END = 60.0  # seconds that a server may take for it


class ServerFailed(BenchmarkFailed):
    """A server ended or did not start; what it wrote is in the message."""


@dataclass(frozen=True)
class Memory:
    """What a process holds, in bytes. PSS shares out what processes have in common."""

    rss: int
    pss: int


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    process: Process

    def memory(self) -> Memory | None:
        """The memory of the process that answers; None where the kernel does not tell."""
        return memory_of(_worker(self.process.pid))

    def memory_of_all(self) -> int | None:
        """The PSS of the process that was started and of its workers, in bytes; None as above."""
        found = [memory_of(each) for each in (self.process.pid, *_children(self.process.pid))]
        return sum(each.pss for each in found if each) if all(found) else None

    def peak_memory(self) -> int:
        """The most that the process that answers ever held, RSS in bytes. Linux only."""
        status = Path(f"/proc/{_worker(self.process.pid)}/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])

    def processor_seconds(self) -> float:
        """What the process that answers has had of the processors, of one core's time."""
        stat = Path(f"/proc/{_worker(self.process.pid)}/stat").read_text()
        # Behind the name in brackets; user's and system's time are its 12th and 13th.
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Program:
    """How a server is started; PORT in its words and variables stands for its port."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def uvicorn(python: str, app: str, *options: str, **environment: str) -> Program:
    """One uvicorn worker, the same for all who run on it."""
    command = [python, "-m", "uvicorn", app, *options, "--host", HOST, "--port", PORT]
    command += ["--workers", "1", "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    command += ["--no-proxy-headers", "--no-server-header", "--log-level", "warning"]
    return Program(command, environment)


def gunicorn(python: str, app: str, *, threads: int, **environment: str) -> Program:
    """One gunicorn worker of some threads, with kept connections."""
    command = [python, "-m", "gunicorn", app, "--bind", f"{HOST}:{PORT}", "--workers", "1"]
    command += ["--worker-class", "gthread", "--threads", str(threads), "--keep-alive", "75"]
    return Program([*command, "--log-level", "warning"], environment)


@asynccontextmanager
async def serving(program: Program) -> AsyncIterator[Server]:
    """The program as a server that answers; ended when the block is left.

    Raises ServerFailed when it does not come to answer, or has ended by itself.
    """
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
        process = await create_subprocess_exec(
            *(word.replace(PORT, str(port)) for word in program.command),
            # Not the checkout, whose .env would set what is to be measured.
            cwd=folder,
            env=environment(
                **{
                    name: value.replace(PORT, str(port))
                    for name, value in program.environment.items()
                },
                SCOPEGATE_PORT=str(port),
            ),
            stdin=DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            await _until_it_answers(port, process)
            yield Server(port, process)
        finally:
            ended_by_itself = process.returncode is not None
            await _end(process)
            if ended_by_itself:  # Whatever else went wrong, this is why.
                written = os.pread(output.fileno(), 10_000, 0).decode(errors="replace")
                raise ServerFailed(f"{' '.join(program.command)} has ended:\n{written}")


async def run_to_its_end(program: Program) -> str:
    """Run a command that prepares something; return what it writes. Raises ServerFailed."""
    with tempfile.TemporaryDirectory() as folder:
        process = await create_subprocess_exec(
            *program.command,
            cwd=folder,
            env=environment(**program.environment),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
        )
        output, _ = await process.communicate()
    written = output.decode(errors="replace")
    if process.returncode != 0:
        raise ServerFailed(f"{' '.join(program.command)}\n{written}")
    return written


def memory_of(process: int | Literal["self"]) -> Memory | None:
    """The memory of a process; None where the kernel does not tell."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    words = [line.split() for line in lines]
    kilobytes = {line[0]: int(line[1]) for line in words if line[0] in {"Rss:", "Pss:"}}
    return Memory(rss=kilobytes["Rss:"] * 1024, pss=kilobytes["Pss:"] * 1024)


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without settings of Scopegate or Postgres, and with these."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SCOPEGATE_", "BENCH_", "PG"))
    }
    return kept | {"PYTHONPATH": str(ROOT)} | changes


async def _until_it_answers(port: int, process: Process) -> None:
    deadline = time.monotonic() + START_OR_END
    while True:
        if process.returncode is not None:
            return  # `serving` says so
        try:
            connection = await Connection.open(port)
            await connection.ask(request("/"))
            connection.close()
            return
        except ConnectionError:
            if time.monotonic() > deadline:
                raise ServerFailed(f"The server on port {port} does not answer.") from None
            await asyncio.sleep(0.01)


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(START_OR_END):
            await process.wait()
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _worker(pid: int) -> int:
    """The process that answers: gunicorn's child, or uvicorn's only one."""
    return next(iter(_children(pid)), pid)


def _children(pid: int) -> list[int]:
    """The processes that this one has started; none where the kernel does not tell."""
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
