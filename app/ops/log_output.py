"""The log's way to stdout: the lines of one turn of the event loop in one write, and no waiting."""

import asyncio
import io
import os
import select
import socket
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

MOST_WAITING = 1024 * 1024
"""Bytes that wait while stdout takes no more. Lines beyond that are dropped, and counted."""
ALL_OR_NOTHING = getattr(select, "PIPE_BUF", 512)  # Windows does not say.
"""Bytes that a pipe takes in one piece, also while other processes write to it."""
RETRY_AFTER = 0.05
"""Seconds."""
PATIENCE = 1.0
"""Seconds in which `close` writes what waits."""


class LogOutput:
    """Writes lines in their order. A reader that has stopped reading never makes a request wait.

    Any thread may write. On the event loop, the lines of one turn are written together at its end.
    `dropped` counts the lines that found no place.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream  # Kept: it would close the descriptor.
        self._write = _writer(stream)
        self._waiting: list[bytes] = []
        self._size = 0
        self._due_on: asyncio.AbstractEventLoop | None = None
        """The event loop that will write what waits; another one may have ended before."""
        self.lock = threading.RLock()
        self.dropped = 0

    def line(self, line: bytes) -> None:
        """Write this line, newline included: now, or in the event loop's next iteration."""
        with self.lock:
            if self._size + len(line) > MOST_WAITING:
                self.dropped += 1
                return
            self._waiting.append(line)
            self._size += len(line)
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                self.flush()
                return
            if self._due_on is not loop:
                self._due_on = loop
                loop.call_soon(self._flush_in_turn)

    def flush(self) -> bool:
        """Write as much as stdout takes. Return whether that was all."""
        with self.lock:
            if not self._waiting:
                return True
            # Taken first: what writes may itself log, such as a warning of the garbage collection.
            lines, self._waiting = b"".join(self._waiting), []
            rest = self._rest_of(lines)
            if rest:
                self._waiting.insert(0, rest)
            self._size = sum(map(len, self._waiting))
            return not self._waiting

    def _rest_of(self, lines: bytes) -> bytes:
        """Write as much as stdout takes; return the rest."""
        begin = 0
        try:
            while begin < len(lines):
                # Whole lines, of which a pipe takes all or nothing: others write to it too.
                piece = lines[begin : begin + ALL_OR_NOTHING]
                whole = piece.rpartition(b"\n")[0]
                begin += self._write(whole + b"\n" if whole else piece)
        except BlockingIOError:
            return lines[begin:]
        except OSError:
            # A log that can't be written is no reason to fail a request.
            self.dropped += lines.count(b"\n", begin)
        return b""

    def close(self) -> None:
        """Write what waits, if stdout takes it in time."""
        deadline = time.monotonic() + PATIENCE
        while not self.flush() and time.monotonic() < deadline:
            time.sleep(RETRY_AFTER)

    def _flush_in_turn(self) -> None:
        with self.lock:
            if self.flush():
                self._due_on = None
            elif self._due_on:
                self._due_on.call_later(RETRY_AFTER, self._flush_in_turn)


def _writer(stream: TextIO) -> Callable[[bytes], int]:
    """Return what writes to the stream, and never waits for who reads a pipe or a socket.

    On a system without /proc, a pipe is written to as a file is: that may wait.
    """
    try:
        descriptor = stream.fileno()
    except io.UnsupportedOperation:
        return lambda lines: len(lines) if stream.write(lines.decode()) else 0
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(kind):
        # Opened anew: other processes that share the pipe may rely on waiting.
        with suppress(OSError, AttributeError):
            own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK)
            return lambda lines: os.write(own, lines)
    if stat.S_ISSOCK(kind) and hasattr(socket, "MSG_DONTWAIT"):
        connection = socket.socket(fileno=os.dup(descriptor))
        return lambda lines: connection.send(lines, socket.MSG_DONTWAIT)
    return lambda lines: os.write(descriptor, lines)
