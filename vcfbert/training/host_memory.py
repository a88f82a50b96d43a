"""Host memory of the process: its peak, and returning freed memory to the operating system."""

from __future__ import annotations

import contextlib
import ctypes
import resource


def trim_memory() -> None:
    """Returns freed memory to the system where the C library can (glibc); elsewhere does nothing.

    Retrieval windows hold different numbers of typed sites, so batches allocate blocks of many sizes. Without trimming
    the heap fragments and grows by some 250 MB an epoch on the demo panel.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory_mb() -> float:
    """The process's peak host memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
