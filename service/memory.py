"""Freed memory back to the system. Requests run in many threads, and glibc keeps what each of them freed for itself:
of arrays of tens of megabytes a request, gigabytes that nobody uses.
"""

from __future__ import annotations

import ctypes

# Of mallopt(3), from glibc's malloc.h.
_MMAP_THRESHOLD = -3
_ARENA_MAX = -8

_LARGE = 1 << 20  # bytes: arrays from here on are mapped for themselves, and unmapped when they are freed


def give_back() -> None:
    """For the whole process, before its threads start. Without glibc it does nothing."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_ARENA_MAX, 2)
        libc.mallopt(_MMAP_THRESHOLD, _LARGE)
    except (OSError, AttributeError):
        return
