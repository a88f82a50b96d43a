"""Search of typed sites with FAISS in numpy arrays, and the file format of the index. It needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vcfbert.errors import ArtifactError, InputError, MissingExtraError
from vcfbert.kernels import Alleles, Floats, Indices


def import_faiss() -> Any:
    """The faiss module. Raises MissingExtraError."""
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss_missing", "FAISS is not installed", hint="pip install faiss-cpu") from error
    # For 20 queries or more FAISS would compute distances by a matrix product, whose rounding depends on the batch.
    # Equal rows would no longer tie, and a query's rows would depend on the other queries. The direct sum is no slower.
    faiss.cvar.distance_compute_blas_threshold = 2**31 - 1
    return faiss


def check_k(k: int, rows: int) -> None:
    """Raises InputError('retrieval_k') unless 1 <= ``k`` <= ``rows``."""
    if not 1 <= k <= rows:
        raise InputError(
            "retrieval_k", f"cannot find {k} neighbours in an index of {rows} rows", hint="lower retrieval.k"
        )


def read_index(path: Path, *, n_rows: int, n_sites: int) -> Any:
    """Opens an index and checks its type, dimension, count and metric. Raises ArtifactError."""
    faiss = import_faiss()
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise ArtifactError("index_damaged", "FAISS cannot read this index", where=str(path)) from error
    found = (type(index).__name__, index.d, index.ntotal, index.metric_type)
    expected = ("IndexScalarQuantizer", n_sites, n_rows, faiss.METRIC_L2)
    if found != expected:
        raise ArtifactError(
            "index_mismatch",
            f"type, dimension, count and metric are {found}, but the reference subset needs {expected}",
            where=str(path),
            hint="build the index again from this panel",
        )
    return index


class FaissKeys:
    """The keys in an index of ``FaissKeyIndex``, read only."""

    def __init__(self, index: Any) -> None:
        faiss = import_faiss()
        self._index = index  # owns the codes
        # A view, so that the codes of an index read from a file stay memory-mapped: they are larger than the panel.
        codes = faiss.rev_swig_ptr(index.codes.data(), index.ntotal * index.code_size)
        self._codes: Alleles = codes.reshape(index.ntotal, -1)

    def __len__(self) -> int:
        return len(self._codes)

    def weights(self) -> Floats:
        """A copy of the index's site weights [n_sites]."""
        root = import_faiss().vector_to_array(self._index.sq.trained)[self._index.d :]
        weights: Floats = np.square(root)
        return weights

    def columns(self, sites: Indices) -> npt.NDArray[np.uint8]:
        """Alleles uint8 [n_rows, t] at ``sites`` int64 [t], decoded from the codes."""
        shift = ((sites & 1) << 2).astype(np.uint8)
        return np.asarray(self._codes[:, sites >> 1] >> shift & 1)


def nearest_rows(
    alleles: Alleles, weights: Floats, coordinates: Floats, k: int, *, one_thread: bool = False
) -> tuple[Floats, Indices]:
    """The k rows of ``alleles`` uint8 [m, t] nearest to each of n queries, as ``KeyIndex.search`` says.

    ``weights`` [t] and ``coordinates`` [n, t] are those of the same sites. ``one_thread``: FAISS starts none.
    """
    check_k(k, len(alleles))
    faiss = import_faiss()
    if one_thread:
        faiss.omp_set_num_threads(1)  # of the calling thread
    root = np.sqrt(weights)
    distances, rows = faiss.knn(coordinates * root, alleles * root, k)
    return distances, rows
