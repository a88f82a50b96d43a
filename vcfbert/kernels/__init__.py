"""Names of array types, the link between numpy functions and their compiled twins, and dividing targets among threads.

A function under ``@compiled`` says in numpy what its twin in C, in this folder, computes. The twin is called wherever
its library was built. Without a C compiler at installation the numpy function itself runs, many times slower.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, update_wrapper
from inspect import signature
from pathlib import Path
from typing import Any, Final, Generic, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from vcfbert.errors import ArtifactError

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int32]
Indices = npt.NDArray[np.int64]
Alleles = npt.NDArray[np.uint8]
Calls = npt.NDArray[np.int8]
Bits = npt.NDArray[np.uint64]

LIBRARIES: Final = Path(__file__).parent
_REBUILD: Final = "run `make kernels` in a checkout, or install vcfbert again"
_MAX_DIMS: Final = 4
_OUT_OF_MEMORY: Final = -1  # returned by a twin that found no memory

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class _Array(ctypes.Structure):
    """``Array`` of array.h."""

    _fields_ = (("data", ctypes.c_void_p), ("shape", ctypes.c_int64 * _MAX_DIMS))


class Kernel(Generic[_Arguments, _Result]):
    """A function with a compiled twin. ``plain`` is the function in numpy; both change the same arguments.

    The twin's parameters follow from the annotations: arrays of one type, int, bool, float, and NamedTuples of arrays.
    Arrays must have exactly that type and be contiguous; otherwise TypeError is raised. The interpreter's lock is free
    while the twin runs. Raises MemoryError if it finds no memory.
    """

    def __init__(self, plain: Callable[_Arguments, _Result]) -> None:
        self.plain = plain
        self.name = plain.__name__.lstrip("_")
        self._compiled: Callable[..., Any] | None = None
        update_wrapper(self, plain)

    def __call__(self, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        library = _library()
        if library is None:
            return self.plain(*args, **kwargs)
        if self._compiled is None:
            self._compiled = _linked(library, self.name, self.plain)
        given = args if not kwargs else tuple(signature(self.plain).bind(*args, **kwargs).arguments.values())
        result: _Result = self._compiled(*given)
        return result


def compiled(plain: Callable[_Arguments, _Result]) -> Kernel[_Arguments, _Result]:
    """Marks a numpy function whose twin of the same name, without leading underscores, is in ``*.c`` of this folder."""
    return Kernel(plain)


def _linked(library: ctypes.CDLL, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    hints = get_type_hints(plain)
    returned = hints.pop("return")
    convert = [_converter(f"{name}: {argument}", hint) for argument, hint in hints.items()]
    function = getattr(library, f"vcfbert_{name}")
    function.restype = ctypes.c_double if returned is float else ctypes.c_int64

    def twin(*args: Any) -> Any:
        result = function(*[one(value) for one, value in zip(convert, args, strict=True)])
        if result == _OUT_OF_MEMORY and returned is not float:
            raise MemoryError(f"no memory for {name}")
        return None if returned is type(None) else result

    return twin


def _converter(name: str, hint: Any) -> Callable[[Any], Any]:
    if hint in (int, bool):
        return ctypes.c_int64
    if hint is float:
        return ctypes.c_double
    if get_origin(hint) is np.ndarray:
        dtype = np.dtype(get_args(get_args(hint)[1])[0])
        return lambda value: ctypes.byref(_array(name, value, dtype))
    fields = {field: np.dtype(get_args(get_args(of)[1])[0]) for field, of in get_type_hints(hint).items()}

    def group(values: Any) -> Any:
        arrays = [_array(f"{name}.{field}", getattr(values, field), dtype) for field, dtype in fields.items()]
        return ctypes.byref((_Array * len(arrays))(*arrays))

    return group


def _array(name: str, value: npt.NDArray[Any], dtype: np.dtype[Any]) -> _Array:
    if value.dtype != dtype or not value.flags.c_contiguous:
        raise TypeError(f"{name}: a contiguous array of {dtype} expected, not {value.dtype} {value.shape}")
    return _Array(value.__array_interface__["data"][0], value.shape)


def are_compiled() -> bool:
    """Whether the kernels were built; else numpy does their work. A caller with a faster way than numpy's asks."""
    return _library() is not None


@cache
def _library() -> ctypes.CDLL | None:
    """The library for this processor; None, with a warning in the log, if none was built.

    Raises ArtifactError 'kernels_stale' if it was built of other sources than those that lie beside it, or for another
    platform.
    """
    paths = {path.name.partition(".")[0]: path for path in LIBRARIES.glob("*.so")}
    if "generic" not in paths:
        log.warning(
            "the compiled kernels are missing, so imputation is many times slower; install a C compiler, then %s",
            _REBUILD,
        )
        return None
    try:
        library = ctypes.CDLL(str(paths["generic"]))
        if "avx2" in paths and library.vcfbert_has_avx2():
            library = ctypes.CDLL(str(paths["avx2"]))
        library.vcfbert_sources.restype = ctypes.c_char_p
        built_of = library.vcfbert_sources().decode()
    except (OSError, AttributeError) as error:
        raise ArtifactError(
            "kernels_stale", f"the compiled kernels cannot be loaded ({error})", where=str(LIBRARIES), hint=_REBUILD
        ) from error
    if built_of != sources_digest():
        what = "the kernels were compiled from other sources than those that lie beside them"
        raise ArtifactError("kernels_stale", what, where=str(LIBRARIES), hint=_REBUILD)
    return library


def sources_digest() -> str:
    """sha256 of the kernels' sources. A library of other sources would take its arguments for something else."""
    sources = sorted(LIBRARIES.glob("*.[ch]"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def divide_among_threads(work: Callable[[Indices], None], n: int, threads: int) -> None:
    """Divides n targets among ``threads`` threads, of which the caller's is one.

    Each thread calls ``work`` once, with its targets' indices int64.
    """
    own, *others = [np.arange(first, n, threads) for first in range(max(min(threads, n), 1))]
    if not others:  # starting a thread can take longer than one sample
        work(own)
        return
    with ThreadPoolExecutor(len(others)) as pool:
        started = [pool.submit(work, part) for part in others]
        work(own)
        for one in started:
            one.result()


def usable_threads() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
