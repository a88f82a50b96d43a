"""Key search with FAISS, and the file format of the index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vcfbert.errors import ArtifactError, InputError, MissingExtraError
from vcfbert.genotypes.reference_subset import ReferenceSubset


def import_faiss() -> Any:
    """The faiss module; torch is imported first because both bring an OpenMP runtime. Raises MissingExtraError."""
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


class FaissKeyIndex:
    """A 4-bit scalar quantiser over the keys of all sites, [n_rows, n_sites]. Implements ``KeyIndex``.

    A key has two values, 0 and sqrt(w_l), so four bits hold it without loss: code 0 or 15 on the site's own scale. A
    refresh replaces the scales and no code. A search reads the columns of the typed sites.
    """

    def __init__(self, index: Any) -> None:
        self.index = index
        faiss = import_faiss()
        # A view, so that the codes of an index read from a file stay memory-mapped: they are larger than the panel.
        codes = faiss.rev_swig_ptr(index.codes.data(), index.ntotal * index.code_size)
        self._codes: npt.NDArray[np.uint8] = codes.reshape(index.ntotal, -1)
        self.weights = torch.from_numpy(faiss.vector_to_array(index.sq.trained)[index.d :].copy()).square()

    @classmethod
    def build(cls, reference: ReferenceSubset, weights: Tensor) -> FaissKeyIndex:
        """An index of the reference subset over all sites of its panel; ``weights`` float32 [n_sites]."""
        faiss = import_faiss()
        n_sites = reference.panel.n_sites
        index = faiss.IndexScalarQuantizer(n_sites, faiss.ScalarQuantizer.QT_4bit, faiss.METRIC_L2)
        _set_scale(index, weights)
        for start in range(0, len(reference), 256):
            rows = reference.panel.alleles(slice(0, n_sites), reference.haplotypes[start : start + 256])
            nibbles = np.zeros((len(rows), 2 * index.code_size), dtype=np.uint8)
            nibbles[:, :n_sites] = rows * 15
            index.add_sa_codes(nibbles[:, 0::2] | nibbles[:, 1::2] << 4)
        return cls(index)

    @classmethod
    def load(cls, path: Path, *, n_rows: int, n_sites: int) -> FaissKeyIndex:
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
        return cls(index)

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def refresh(self, weights: Tensor) -> None:
        self.weights = weights.detach().float().cpu()
        _set_scale(self.index, self.weights)

    def columns(self, sites: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Alleles uint8 [n_rows, t] at ``sites`` int64 [t], decoded from the codes."""
        shift = ((sites & 1) << 2).astype(np.uint8)
        return np.asarray(self._codes[:, sites >> 1] >> shift & 1)

    def search(self, sites: Tensor, coordinates: Tensor, k: int) -> tuple[Tensor, Tensor]:
        check_k(k, len(self))
        root = self.weights[sites.cpu()].sqrt()
        keys = self.columns(sites.cpu().numpy()) * root.numpy()
        queries = (coordinates.detach().float().cpu() * root).numpy()
        distances, rows = import_faiss().knn(queries, keys, k)
        device = coordinates.device
        return torch.from_numpy(distances).to(device), torch.from_numpy(rows).to(device)

    def save(self, path: Path) -> None:
        # Written from memory, because FAISS's own writer does not say that the disk is full.
        path.write_bytes(import_faiss().serialize_index(self.index).tobytes())


def _set_scale(index: Any, weights: Tensor) -> None:
    root = weights.detach().float().cpu().clamp(min=0.0).sqrt().numpy()
    # The quantiser decodes code c to low + (c + 1/2) / 15 * width. This low and width map 0 and 15 to 0 and sqrt(w).
    scale = np.concatenate([-root / 30.0, root]).astype(np.float32)
    import_faiss().copy_array_to_vector(scale, index.sq.trained)
    index.is_trained = True
