"""Memory that imputations freed, given back to the system."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


@cache
def _malloc_trim() -> Any:
    """glibc's function; None with other C libraries."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """glibc keeps what each thread has freed for that thread's next call. Requests are answered by dozens of threads
    in turn, and each would hold as much as an imputation needs. Takes milliseconds; other threads run meanwhile."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)
