"""Memory that is free goes back to the system, which glibc's malloc does not do by itself.

A password's hash takes 19 MiB for 20 ms. By itself glibc gives each thread a heap, and each heap
keeps what its largest block took: a process whose hashing threads have once been busy stays 19 MiB
larger for each of them. Giving every block back at once would make a hash half as dear again, for
its pages would be new each time; so it is done every few seconds, for what is free then.
"""

import ctypes
import sys

M_ARENA_MAX = -8
"""The name that `malloc.h` has for it."""


def share_one_heap() -> None:
    """Have all threads allocate from one heap, as others can't be trimmed. Before they start."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_ARENA_MAX, 1)


def trim_heap() -> None:
    """Give back the pages that are not in use, in a millisecond or two; nothing without glibc."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
