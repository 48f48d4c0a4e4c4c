"""Return free memory to the system, which glibc's malloc does not do by itself.

A password's hash takes 19 MiB for 20 ms. By itself glibc gives each thread a heap, and each heap
keeps the size of its largest block. So a process stays 19 MiB larger for each hashing thread that
was ever busy. Returning each block at once would make a hash cost half as much again, because its
pages would be new each time. So this runs every few seconds, for the memory that is free then.
"""

import ctypes
import sys

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
