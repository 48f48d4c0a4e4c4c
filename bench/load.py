"""Load: some connections, each with one request in flight, for some seconds.

It is a process of its own, so that it has a core of its own and what it costs is not the
server's. `run` starts one; started so, it reads a `Job` from standard input and prints a `Load`.
"""

import asyncio
import json
import math
import sys
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

import uvloop

from bench.errors import BenchmarkFailed
from bench.wire import PATIENCE, Answer, Connection, NotUnderstood

CONNECTIONS = 16


class WrongAnswer(BenchmarkFailed):
    """A server answered otherwise than it should: error pages must never be measured."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to send where, how long, and which status every answer must have."""

    port: int
    requests: Sequence[str]
    """Sent in turn by all connections."""
    seconds: float
    connections: int = CONNECTIONS
    at_most: int = 1_000_000
    expected: int = 200


@dataclass(frozen=True, slots=True)
class Load:
    """What came back. Latencies are in seconds."""

    statuses: dict[int, int]
    seconds: float
    p50: float
    p99: float

    @property
    def throughput(self) -> float:
        """Answers a second."""
        return sum(self.statuses.values()) / self.seconds


async def run(job: Job) -> Load:
    """Do the job in a process of its own. Raises WrongAnswer."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.load"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaint = await process.communicate(json.dumps(asdict(job)).encode())
    if process.returncode != 0:
        raise WrongAnswer(complaint.decode().strip())
    result: dict[str, Any] = json.loads(output)
    result["statuses"] = {int(status): count for status, count in result["statuses"].items()}
    return Load(**result)


async def perform(job: Job) -> Load:
    """Do the job in this process.

    Raises WrongAnswer at the first status that is not expected, and when the server hangs up or
    does not answer in time.
    """
    connections = [await Connection.open(job.port) for _ in range(job.connections)]
    statuses: Counter[int] = Counter()
    latencies = array("d")
    requests = cycle([each.encode() for each in job.requests])
    started = time.perf_counter()

    async def keep_asking(connection: Connection) -> None:
        now = time.perf_counter()
        while now - started < job.seconds and len(latencies) < job.at_most:
            answer = await connection.ask(next(requests))
            asked, now = now, time.perf_counter()
            latencies.append(now - asked)
            statuses[answer.status] += 1
            if answer.status != job.expected:
                raise _wrong(answer, job)

    try:
        async with asyncio.timeout(job.seconds + PATIENCE), asyncio.TaskGroup() as group:
            for connection in connections:
                group.create_task(keep_asking(connection))
        seconds = time.perf_counter() - started
    except* (WrongAnswer, NotUnderstood, OSError) as failed:
        # One says it all: the others failed with it.
        raise WrongAnswer(f"{_asked(job)}: {failed.exceptions[0]}") from None
    finally:
        for connection in connections:
            connection.close()
    return Load(dict(statuses), seconds, percentile(latencies, 50), percentile(latencies, 99))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all do not exceed (the nearest rank)."""
    return sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1]


def _wrong(answer: Answer, job: Job) -> WrongAnswer:
    body = answer.body[:300].decode(errors="replace")
    return WrongAnswer(f"expected {job.expected}, got {answer.status}: {body}")


def _asked(job: Job) -> str:
    return job.requests[0].partition("\r\n")[0]


def main() -> None:
    """What the process does."""
    job = Job(**json.load(sys.stdin))
    try:
        load = uvloop.run(perform(job))
    except WrongAnswer as wrong:
        sys.exit(str(wrong))
    json.dump(asdict(load), sys.stdout)


if __name__ == "__main__":
    main()
