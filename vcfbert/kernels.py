"""What all compiled kernels share: array types, how they are compiled, how targets are divided among threads."""

from __future__ import annotations

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

# Sums may be reordered, which vectorises them; infinities and NaN keep their meaning.
_FAST_MATH: Final = {"reassoc", "contract", "arcp", "nsz"}

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compiles ``function`` to run without the interpreter's lock, so that threads run side by side.

    numba's cache notices changes of the function's own file only. After a change of a compiled function that another
    file calls, delete the ``__pycache__`` folders.
    """
    return cast(_Function, numba.njit(cache=True, nogil=True, fastmath=_FAST_MATH)(function))


def compiled_exactly(function: _Function) -> _Function:
    """The same with sums in the order written, for results that are compared with each other."""
    return cast(_Function, numba.njit(cache=True, nogil=True)(function))


def divide_among_threads(work: Callable[[Indices], None], n: int, threads: int) -> None:
    """Calls ``work`` with the numbers of some of n targets, in each of ``threads``, until all are done."""
    shares = [np.arange(first, n, threads) for first in range(min(threads, n))]
    with ThreadPoolExecutor(max(len(shares), 1)) as pool:
        list(pool.map(work, shares))
