"""Memory: what is free goes back to the system, and what stays is left alone by collections.

A password's hash takes 19 MiB for 20 ms. By itself glibc gives each thread a heap, and each heap
keeps the size of its largest block. So a process stays 19 MiB larger for each hashing thread that
was ever busy. Returning each block at once would make a hash cost half as much again, because its
pages would be new each time. So this runs every few seconds, for the memory that is free then.
"""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

M_ARENA_MAX = -8
"""The name that `malloc.h` has for it."""


def share_one_heap() -> None:
    """Make all threads share one heap, because others can't be trimmed. Call before they start."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_ARENA_MAX, 1)


def trim_heap() -> None:
    """Return unused pages to the system, in a millisecond or two; do nothing without glibc."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


@contextmanager
def kept_for_good() -> Iterator[None]:
    """Exempt from garbage collections what there is at the end of the block; have none before.

    For imports: what they make stays until the process ends, and a collection looks at each of its
    objects. That takes a tenth of the time of a start, and later 50 ms at each full collection.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def keep_pages_shared() -> None:
    """Exempt all that exists now from garbage collections. Call before the first fork.

    A collection writes to each object that it looks at, and a process that writes to a page which
    it shares with its parent gets a copy of its own.
    """
    gc.collect()
    gc.freeze()
