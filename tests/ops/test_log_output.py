"""The log's way to stdout: together, in order, and without waiting for a reader."""

import asyncio
import os
import secrets
import select
import subprocess
import threading
from collections.abc import Iterator
from typing import Any, TextIO

import httpx2
import pytest

from app.ops.log_output import MOST_WAITING, LogOutput
from tests.support.processes import SERVE, environment, eventually, free_port


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """Both ends of a pipe: what is read from, and what is written to."""
    end, begin = os.pipe()
    with os.fdopen(begin, "w") as stream:
        yield end, stream
    os.close(end)


def readable(end: int) -> bool:
    return bool(select.select([end], [], [], 0)[0])


async def test_the_lines_of_one_turn_are_written_together_at_its_end(
    pipe: tuple[int, TextIO],
) -> None:
    end, stream = pipe
    output = LogOutput(stream)
    for number in range(3):
        output.line(b"%d\n" % number)
    assert not readable(end)
    await asyncio.sleep(0)
    assert os.read(end, 100) == b"0\n1\n2\n"


def test_without_an_event_loop_each_line_is_written_at_once(pipe: tuple[int, TextIO]) -> None:
    end, stream = pipe
    LogOutput(stream).line(b"x\n")
    assert os.read(end, 100) == b"x\n"


def test_what_a_loop_that_has_ended_did_not_write_is_written_with_the_next_line(
    pipe: tuple[int, TextIO],
) -> None:
    end, stream = pipe
    output = LogOutput(stream)

    async def end_at_once(line: bytes) -> None:
        output.line(line)

    asyncio.run(end_at_once(b"1\n"))
    output.line(b"2\n")
    assert os.read(end, 100) == b"1\n2\n"
    loop = asyncio.new_event_loop()
    loop.call_soon(output.line, b"3\n")
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    asyncio.run(end_at_once(b"4\n"))
    output.line(b"5\n")
    assert os.read(end, 100) == b"3\n4\n5\n"


async def test_a_reader_that_stops_makes_nobody_wait_and_what_finds_no_place_is_counted(
    pipe: tuple[int, TextIO],
) -> None:
    end, stream = pipe
    output = LogOutput(stream)
    line = b"%07d" + b"x" * 992 + b"\n"
    lines = [line % number for number in range(2 * MOST_WAITING // 1000)]
    for number, each in enumerate(lines):
        output.line(each)
        if number % 10 == 0:
            await asyncio.sleep(0)
    kept = len(lines) - output.dropped
    assert 0 < output.dropped < len(lines)
    read = b""
    while len(read) < 1000 * kept:
        read += await asyncio.to_thread(os.read, end, 65536)
    assert read.splitlines(keepends=True) == lines[:kept], "whole lines, in their order"
    output.line(b"again\n")
    assert await asyncio.to_thread(os.read, end, 100) == b"again\n"


async def test_threads_that_write_at_once_lose_no_line(pipe: tuple[int, TextIO]) -> None:
    end, stream = pipe
    output = LogOutput(stream)

    def write() -> None:
        for _ in range(500):
            output.line(b"123456789\n")

    writers = [threading.Thread(target=write) for _ in range(4)]
    for each in writers:
        each.start()
    read = b""
    while len(read) < 10 * 2000:
        read += await asyncio.to_thread(os.read, end, 65536)
    assert set(read.splitlines()) == {b"123456789"}


def test_what_waits_at_the_end_is_written_while_somebody_reads(pipe: tuple[int, TextIO]) -> None:
    end, stream = pipe
    output = LogOutput(stream)
    for _ in range(200):
        output.line(b"x" * 999 + b"\n")  # More than a pipe takes.
    closing = threading.Thread(target=output.close)
    closing.start()
    read = b""
    while len(read) < 200_000:
        read += os.read(end, 65536)
    closing.join()
    assert output.dropped == 0


def test_a_log_that_cant_be_written_fails_nobody() -> None:
    end, begin = os.pipe()
    with os.fdopen(begin, "w") as stream:
        output = LogOutput(stream)
        os.close(end)
        output.line(b"x\n")
        assert output.flush()


@pytest.mark.system
def test_a_service_whose_log_nobody_reads_answers_as_before(settings: dict[str, Any]) -> None:
    port, token = free_port(), secrets.token_urlsafe(32)
    env = environment(port=port, metrics_token=token, **settings)
    with subprocess.Popen(SERVE, env=env, stdout=subprocess.PIPE) as process:
        try:
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
                eventually(lambda: _answers(client))
                bearer = {"Authorization": f"Bearer {token}"}
                dropped = 0.0
                while not dropped:
                    for _ in range(200):
                        assert client.get("/nowhere").status_code == 404
                    metrics = client.get("/metrics", headers=bearer).text
                    (line,) = [
                        each
                        for each in metrics.splitlines()
                        if each.startswith("scopegate_log_lines_dropped_total")
                    ]
                    dropped = float(line.rpartition(" ")[2])
        finally:
            process.kill()


def _answers(client: httpx2.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx2.TransportError:
        return False
