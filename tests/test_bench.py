"""The benchmark's load generator: nothing that it counts may be wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bench.load import Job, WrongAnswer, percentile, perform
from bench.sizes import measure
from bench.wire import HOST, Answer, NotUnderstood, read_answer, request

AT_MOST = 1000


@asynccontextmanager
async def answering(*statuses: int) -> AsyncIterator[int]:
    """The port of a server that gives these statuses in turn, and the last one for ever."""
    left = list(statuses)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                status = left.pop(0) if len(left) > 1 else left[0]
                # In two pieces: an answer may come in any number of them.
                writer.write(b"HTTP/1.1 %d Some Reason\r\nContent-Le" % status)
                await writer.drain()
                writer.write(b"ngth: 2\r\n\r\n{}")
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def job(port: int, **changes: int) -> Job:
    return Job(port, [request("/").decode()], seconds=60, **changes)


async def test_load_counts_every_answer_by_its_status() -> None:
    async with answering(200) as port:
        load = await perform(job(port, connections=3, at_most=AT_MOST))
    # Each of the three may have had a request in flight when the last one was counted.
    assert load.statuses.keys() == {200}
    assert AT_MOST <= load.statuses[200] < AT_MOST + 3
    assert 0 < load.p50 <= load.p99


@pytest.mark.parametrize("status", [401, 429, 500])
async def test_load_fails_at_the_first_wrong_status(status: int) -> None:
    async with answering(200, 200, status, 200) as port:
        with pytest.raises(WrongAnswer, match=f"expected 200, got {status}"):
            await perform(job(port, connections=3, at_most=AT_MOST))


async def test_load_fails_when_the_server_hangs_up() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, HOST, 0) as server:
        with pytest.raises(WrongAnswer, match="hung up"):
            await perform(job(server.sockets[0].getsockname()[1]))


def test_answer_is_read_only_when_it_is_whole() -> None:
    whole = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nserver: any\r\n\r\nhello"
    assert all(read_answer(whole[:end]) is None for end in range(len(whole)))
    assert read_answer(whole) == Answer(200, b"hello")
    with pytest.raises(NotUnderstood):
        read_answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


def test_percentile_is_the_nearest_rank() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, percent) for percent in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([7.0], 50) == 7


@pytest.mark.long
async def test_sizes_weigh_every_table_and_sessions_that_were_refreshed(
    empty_database_url: str,
) -> None:
    found = await measure(empty_database_url, users=200)
    assert [(size.what, size.rows) for size in found] == [
        ("users", 200),
        ("grants", 1000),
        ("sessions", 201),
        ("audit_entries", 202),  # the first signing key has one too
        ("sessions, refreshed three times", 201),
    ]
    assert all(size.heap > 0 and size.indexes > 0 for size in found)
