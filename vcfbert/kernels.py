"""Names of array types, and what all compiled kernels share: compilation, and dividing targets among threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int32]
Indices = npt.NDArray[np.int64]
Alleles = npt.NDArray[np.uint8]
Calls = npt.NDArray[np.int8]

# Lets the compiler reorder sums, so that it can vectorise them. Infinities and NaN keep their meaning.
_FAST_MATH: Final = {"reassoc", "contract", "arcp", "nsz"}

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compiles ``function`` without the interpreter's lock, so that threads run in parallel.

    numba's cache notices changes of the function's own file only. After a change of a compiled function that another
    file calls, delete the ``__pycache__`` folders.
    """
    return cast(_Function, numba.njit(cache=True, nogil=True, fastmath=_FAST_MATH)(function))


def compiled_exactly(function: _Function) -> _Function:
    """As ``compiled``, with sums in the order written, for results that must be reproducible to the last bit."""
    return cast(_Function, numba.njit(cache=True, nogil=True)(function))


def divide_among_threads(work: Callable[[Indices], None], n: int, threads: int) -> None:
    """Divides n targets among ``threads`` threads. Each thread calls ``work`` once, with its targets' indices int64."""
    parts = [np.arange(first, n, threads) for first in range(min(threads, n))]
    with ThreadPoolExecutor(max(len(parts), 1)) as pool:
        list(pool.map(work, parts))


def usable_threads() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
