"""Streams: other services follow what happens, each at its own pace (GET /events).

All streams of a process read one ring. A stream is a position in it, so a slow one costs no memory.
"""

import asyncio
import math
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

from app.db.changes import BEATS_PER_BOUND, ChangeFeed
from app.db.clock import DatabaseClock, monotonic
from app.db.events import EVERYTHING, Event, Mark
from app.errors import Unavailable
from app.events import frames
from app.events.batches import Batch, Batches
from app.events.ring import Entry, Ring

VERSION = 1
"""Of the protocol. A client that knows only an earlier one asks about each token."""
MAX_BEHIND = 1000
"""Frames that a stream may be behind; then it gets `everything` instead."""
PAUSE, PAUSE_A_STREAM, MAX_PAUSE = 0.005, 0.0012, 0.2
"""Seconds between two writes to a stream while many changes are made: more where many streams are
open, because a write costs about the same whether it has one frame or a hundred."""
WITHOUT_PAUSE = 4
"""Writes that may follow each other at once, after a quiet time: few changes never wait."""
TURN = 0.0006
"""Seconds from one stream's write to the next one's while many changes are made: requests are
served between them."""

Reason = Literal["draining", "expired", "revoked", "lost"]
Check = Callable[[], Awaitable[Reason | None]]
"""Says why the stream's caller may not read on; None while they may."""


class NoStream(Unavailable):
    """This process opens no stream just now."""


class Streams:
    """The open streams of a process, and the ring that they read. Follows the change feed."""

    def __init__(self, feed: ChangeFeed, clock: DatabaseClock, *, issuer: str, limit: int) -> None:
        self._feed = feed
        self._clock = clock
        self.issuer = issuer
        self._limit = limit
        self.ring = Ring(margin=math.ceil(1000 * feed.bound))
        self.batches = Batches(self.ring, issuer=issuer)
        self.heard_up_to = -math.inf
        """By the monotonic clock: also while the feed is lost."""
        self.draining = False
        self._open: set[Stream] = set()
        self._waking: asyncio.TimerHandle | None = None
        self._wake_at = -math.inf
        self.sent: Counter[str] = Counter()
        """Frames, by their names."""
        self.overflows = 0
        """How often a stream was too far behind."""
        feed.follow(self)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def bound(self) -> float:
        """Seconds for which a beat proves anything."""
        return self._feed.bound

    @property
    def lag(self) -> float:
        """Return for how many seconds the oldest event has waited that some stream has to send."""
        waiting = [entry for each in self._open for entry in self.ring.read(each.position, most=1)]
        return max((monotonic() - entry.heard_at for entry in waiting), default=0.0)

    def open(self, *, after: int | None) -> "Stream":
        """Open a stream that goes on `after` that `through`, if that can be done. Close it.

        Raises NoStream.
        """
        if self.draining:
            raise NoStream("This process is shutting down.")
        if not self._feed.fresh():
            raise NoStream("This process does not hear of changes just now.")
        if len(self._open) >= self._limit:
            raise NoStream(f"This process has {self._limit} streams open, and takes no more.")
        stream = Stream(self, self._resume(after))
        self._open.add(stream)
        self.batches.show()
        return stream

    def _resume(self, after: int | None) -> tuple[int, int] | None:
        # A time to come was told by another clock.
        if after is None or after > 1000 * self._clock.latest():
            return None
        return self.ring.resume(after)

    def close(self, stream: "Stream") -> None:
        """Make room for another stream."""
        self._open.discard(stream)

    def drain(self) -> None:
        """Say goodbye to every stream, and open no more."""
        self.draining = True
        self._wake()

    def on_event(self, event: Event) -> None:
        """Keep an event that was just heard; those that are not understood are a gap."""
        if event == EVERYTHING:
            self.on_gap()
            return
        entry = Entry(event, monotonic(), math.floor(self._clock.latest()))
        if self._open:
            # Now, one by one: many at once would keep requests waiting.
            self.batches.render(entry)
        self.ring.append(entry)
        self._wake_soon()

    def on_mark(self, mark: Mark) -> None:
        """Note how far the events were heard."""
        self.heard_up_to = mark.heard_up_to
        self.ring.note(mark, heard_at=monotonic())
        self._wake_soon()

    def on_gap(self) -> None:
        """Begin anew: every stream gets `everything`."""
        self.ring.clear()
        self._wake_soon()

    def on_clock_change(self) -> None:
        """End every stream: `hello` has told the time by another clock."""
        self.ring.clear()
        for stream in self._open:
            stream.lost = True
        self._wake()

    def _wake_soon(self) -> None:
        """Wake the streams now; while many changes are made, after a pause, for several."""
        if self._open and self._waking is None:
            loop = asyncio.get_running_loop()
            self._waking = loop.call_at(max(loop.time(), self._wake_at), self._wake)

    def _wake(self) -> None:
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None
        loop = asyncio.get_running_loop()
        pause = min(max(PAUSE, PAUSE_A_STREAM * len(self._open)), MAX_PAUSE)
        self.batches.show()
        self._wake_at = max(self._wake_at, loop.time() - WITHOUT_PAUSE * pause) + pause
        waking, hurries = iter(tuple(self._open)), self._wake_at <= loop.time()

        def wake_next() -> None:
            if stream := next(waking, None):
                stream.woken.set()
                if hurries:
                    loop.call_soon(wake_next)
                else:
                    loop.call_later(TURN, wake_next)

        wake_next()


class Stream:
    """One open stream."""

    def __init__(self, streams: Streams, resumed: tuple[int, int] | None) -> None:
        self._streams = streams
        self.woken = asyncio.Event()
        self.lost = False
        """Whether what it has told of the time is wrong."""
        self._opened_at = streams.ring.end
        self._complete_since: int | None = None
        self.position = self._opened_at
        """The position in the ring of the next event to send."""
        if resumed is not None:
            self.position, self._complete_since = resumed
        self._through = 0

    def hello(self, *, nonce: str | None, now: int) -> bytes:
        """Return the first frame; the database must have told the time since this was opened."""
        streams, since = self._streams, self._complete_since
        return frames.frame(
            "hello",
            {
                "v": VERSION,
                "iss": streams.issuer,
                "nonce": nonce,
                "now": now,
                # What was heard before this was opened was committed before `now`.
                "complete_since": now if since is None else since,
                "resumed": since is not None,
                "beat": round(1000 * streams.bound / BEATS_PER_BOUND),
                "bound": math.floor(1000 * streams.bound),
            },
        )

    async def frames(
        self, hello: bytes, check: Check, *, own: frozenset[uuid.UUID]
    ) -> AsyncIterator[bytes]:
        """Yield `hello` and what follows, until the stream must end.

        `check` is asked at each beat, and at each event about `own`: the ids of the caller.
        """
        streams = self._streams
        streams.sent["hello"] += 1
        yield hello
        checked_at = monotonic()
        while True:
            self.woken.clear()
            if reason := self._reason_to_end():
                break
            found, through = self._read()
            due = through or (found is not None and found.concerns(own))
            # Also where so much happens that no beat is sent.
            due = due or monotonic() - checked_at > streams.bound / BEATS_PER_BOUND
            if due:
                checked_at = monotonic()
                if reason := await check():
                    break
            if found is None:
                streams.sent["everything"] += 1
                yield frames.EVERYTHING
            elif found.frames or through:
                yield self._render(found, through)
            else:
                await self._wait()
        streams.sent["bye"] += 1
        yield frames.bye(reason)

    def _reason_to_end(self) -> Reason | None:
        if self._streams.draining:
            return "draining"
        if self.lost or monotonic() - self._streams.heard_up_to >= self._streams.bound:
            return "lost"
        return None

    def _read(self) -> tuple[Batch | None, int | None]:
        """Return the next events, and what a beat after them proves.

        No batch, and the position after all events, when some of them can't be sent any more.
        """
        ring = self._streams.ring
        # What is replayed is more than a stream may be behind.
        behind = ring.end - max(self.position, self._opened_at)
        if self.position < ring.start or behind > MAX_BEHIND:
            self._streams.overflows += behind > MAX_BEHIND
            self.position = ring.end
            return None, None
        found = self._streams.batches.read(self.position)
        self.position = found.end
        if ring.mark is None or self.position < ring.marked or ring.mark.through <= self._through:
            return found, None
        self._through = ring.mark.through
        return found, self._through

    def _render(self, found: Batch, through: int | None) -> bytes:
        self._streams.sent["set"] += found.end - found.start
        if through is None:
            return found.frames
        self._streams.sent["beat"] += 1
        return found.frames + frames.beat(through)

    def close(self) -> None:
        """Make room for another stream."""
        self._streams.close(self)

    async def _wait(self) -> None:
        """Wait until there may be something to send, or the bound has passed."""
        left = self._streams.heard_up_to + self._streams.bound - monotonic()
        try:
            async with asyncio.timeout(left):
                await self.woken.wait()
        except TimeoutError:
            pass
