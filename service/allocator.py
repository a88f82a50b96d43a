"""Freed memory for whoever asks next. Requests run in many threads, and glibc keeps what each of them freed for it
alone: of arrays of tens of megabytes a request, gigabytes that nobody uses.
"""

from __future__ import annotations

import ctypes

_ARENA_MAX = -8  # of mallopt(3), from glibc's malloc.h


def share_freed() -> None:
    """Among the threads of the process, before its threads start. Without glibc it does nothing."""
    try:
        ctypes.CDLL("libc.so.6").mallopt(_ARENA_MAX, 2)
    except (OSError, AttributeError):
        return
