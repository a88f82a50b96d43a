"""Sharing of freed host memory between threads.

glibc keeps the memory that a thread has freed for that thread. Requests run in many threads with arrays of tens of
megabytes each, so gigabytes would stay unused.
"""

from __future__ import annotations

import ctypes

_ARENA_MAX = -8  # of mallopt(3), from glibc's malloc.h


def share_freed() -> None:
    """Makes all threads of the process share freed memory. Call it before threads start. No effect without glibc."""
    try:
        ctypes.CDLL("libc.so.6").mallopt(_ARENA_MAX, 2)
    except (OSError, AttributeError):
        return
