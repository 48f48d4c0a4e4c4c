"""Bounds on how many audit entries may be written of events that anyone can cause cheaply."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta

ENTRIES = 10
"""Entries of one key that are written within a PERIOD."""
PERIOD = timedelta(minutes=1)
KEYS = 10_000
"""Keys that are remembered, at most. Of those that are forgotten, the period starts anew."""


@dataclass(slots=True)
class _Window:
    began: datetime
    written: int = 0
    left_out: int = 0


class EntryLimit:
    """Decides, in this process, which entries are written and which are only counted.

    `left_out` is the number of all entries that were only counted.
    """

    def __init__(self) -> None:
        self._windows: OrderedDict[Hashable, _Window] = OrderedDict()
        self.left_out = 0

    def __len__(self) -> int:
        return len(self._windows)

    def admit(self, key: Hashable, *, now: datetime) -> int | None:
        """Return how many entries of this key were left out since the last one that was written.

        The entry then says so. None: this entry is left out, too.
        """
        window = self._windows.setdefault(key, _Window(now))
        self._windows.move_to_end(key)
        if len(self._windows) > KEYS:
            self._windows.popitem(last=False)
        if now - window.began >= PERIOD:
            window.began, window.written = now, 0
        if window.written >= ENTRIES:
            window.left_out += 1
            self.left_out += 1
            return None
        window.written += 1
        left_out, window.left_out = window.left_out, 0
        return left_out
