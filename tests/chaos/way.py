"""The way from the second service to the replicas: a proxy that fails as networks and proxies do.

What the second service sends first on a connection tells the streams from all other connections.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(eq=False)
class Connection:
    """What is connected, and to which replica."""

    upstream: str
    lane: "Lane"
    task: asyncio.Task[None]
    ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    lost: bool = False
    """Whether it leads nowhere, and neither side is told."""

    def cut(self) -> None:
        """Reset it at both ends."""
        for end in self.ends:
            end.transport.abort()
        self.task.cancel()


class Lane:
    """The connections of one kind, and how their bytes fare."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.delay = 0.0
        """Seconds by which bytes are late."""
        self.refuses = False
        """Whether a connection is reset as soon as something is sent on it."""
        self._flows = asyncio.Event()
        self._flows.set()

    def hold(self) -> None:
        """Let no byte through, and close nothing."""
        self._flows.clear()

    def release(self) -> None:
        """Let all bytes through that were held."""
        self._flows.set()

    def lose(self) -> None:
        """Let what is connected lead nowhere from now on; new connections do."""
        for each in self.connections:
            each.lost = True

    def cut(self) -> None:
        """Reset what is connected."""
        for each in list(self.connections):
            each.cut()

    def heal(self) -> None:
        """Let everything through again. What was lost stays lost, and is reset."""
        self.delay, self.refuses = 0.0, False
        self.release()
        for each in list(self.connections):
            if each.lost:
                each.cut()

    async def admit(self, connection: Connection, *, came_at: float) -> None:
        """Return when the bytes that came then may go on. Raises ConnectionError if they may not.

        Those of a connection are admitted one after the other.
        """
        await asyncio.sleep(came_at + self.delay - time.monotonic())
        await self._flows.wait()
        if self.refuses:
            raise ConnectionError
        if connection.lost:
            await asyncio.Event().wait()


class Way:
    """A proxy on loopback, at `url`."""

    def __init__(self) -> None:
        self.url = ""
        self.stream, self.other = Lane(), Lane()
        self.requests: Counter[str] = Counter()
        """Of the second service, by method and path."""
        self._upstreams: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def lead_to(self, *urls: str) -> None:
        """Let new connections lead to these in turn, without those that nothing listens at."""
        self._upstreams = list(urls)

    def heal(self) -> None:
        """Let everything through again."""
        self.stream.heal()
        self.other.heal()

    def streams_from(self) -> set[str]:
        """Return the URLs of the replicas from which streams come now."""
        return {each.upstream for each in self.stream.connections if not each.lost}

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._join(reader, writer))
        self._tasks.add(task)
        # Here and not in the task: one that is cancelled at once never runs.
        task.add_done_callback(lambda _: writer.close())
        task.add_done_callback(self._tasks.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream, there, back = await self._connect()
        except ConnectionError:
            return
        task = asyncio.current_task()
        assert task is not None
        connection = Connection(upstream, self.other, task, (writer, back))
        self.other.connections.add(connection)
        pumps = {
            asyncio.create_task(self._pump(reader, back, connection, outward=True)),
            asyncio.create_task(self._pump(there, writer, connection, outward=False)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            connection.lane.connections.discard(connection)
            back.close()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _connect(self) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the next replica that listens. Raises ConnectionError when none does."""
        for _ in range(len(self._upstreams)):
            upstream = self._upstreams.pop(0)
            self._upstreams.append(upstream)
            address = urlsplit(upstream)
            with suppress(OSError):
                there, back = await asyncio.open_connection(address.hostname, address.port)
                return upstream, there, back
        raise ConnectionError

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        connection: Connection,
        *,
        outward: bool,
    ) -> None:
        came: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        # Read ahead: how late bytes are must not depend on how many wait before them.
        reading = asyncio.create_task(_read(source, came))
        block = b"at first"
        try:
            with suppress(ConnectionError):
                while block:
                    came_at, block = await came.get()
                    if outward:
                        self._look_at(block, connection)
                    # The end of a connection is held up like all that is sent on it.
                    await connection.lane.admit(connection, came_at=came_at)
                    sink.write(block)
                    await sink.drain()
        finally:
            reading.cancel()

    def _look_at(self, block: bytes, connection: Connection) -> None:
        """Count a request, and note that a connection bears a stream from now on."""
        request = block.partition(b" HTTP/1.1\r\n")[0].decode("latin-1")
        if "\r" in request or not request.startswith(("GET /", "POST /")):
            return
        self.requests[request] += 1
        connection.lane.connections.discard(connection)
        connection.lane = self.stream if request == "GET /events" else self.other
        connection.lane.connections.add(connection)

    async def _end(self) -> None:
        # What was just accepted has its task a few turns of the loop later.
        await asyncio.sleep(0.01)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _read(source: asyncio.StreamReader, came: asyncio.Queue[tuple[float, bytes]]) -> None:
    """Put what comes in the queue, and when it came; nothing at the end."""
    block = b"at first"
    while block:
        try:
            block = await source.read(65536)
        except ConnectionError:
            block = b""
        came.put_nowait((time.monotonic(), block))


@asynccontextmanager
async def open_way() -> AsyncIterator[Way]:
    """A way that leads nowhere yet."""
    way = Way()
    server = await asyncio.start_server(way._accept, "127.0.0.1", 0)
    way.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield way
    finally:
        server.close()
        await way._end()
