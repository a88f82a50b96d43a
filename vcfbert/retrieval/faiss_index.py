"""Key search with FAISS, and the index's file."""

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
    # From 20 queries on FAISS would take distances from a matrix product, whose rounding depends on the batch: equal
    # rows would no longer tie, and which of them a query gets would depend on its neighbours. It is no slower.
    faiss.cvar.distance_compute_blas_threshold = 2**31 - 1
    return faiss


def check_k(k: int, rows: int) -> None:
    if not 1 <= k <= rows:
        raise InputError("retrieval_k", f"{k} neighbours were asked of an index of {rows}", hint="lower retrieval.k")


class FaissKeyIndex:
    """A 4-bit scalar quantiser over the keys of all sites, [n_rows, n_sites]. Implements ``KeyIndex``.

    A key takes two values, 0 and sqrt(w_l), so four bits hold it without loss: code 0 or 15 on a scale of the
    site's own. A refresh writes new scales; no code changes. A search takes the columns of the typed sites.
    """

    def __init__(self, index: Any) -> None:
        self.index = index
        faiss = import_faiss()
        # A view, which stays in the file of an index that was read: at 4 bits a key it is larger than the panel.
        codes = faiss.rev_swig_ptr(index.codes.data(), index.ntotal * index.code_size)
        self._codes: npt.NDArray[np.uint8] = codes.reshape(index.ntotal, -1)
        self.weights = torch.from_numpy(faiss.vector_to_array(index.sq.trained)[index.d :].copy()).square()

    @classmethod
    def build(cls, memory: ReferenceSubset, weights: Tensor) -> FaissKeyIndex:
        """Index over all sites of the memory's panel; ``weights`` float32 [n_sites]."""
        faiss = import_faiss()
        n_sites = memory.panel.n_sites
        index = faiss.IndexScalarQuantizer(n_sites, faiss.ScalarQuantizer.QT_4bit, faiss.METRIC_L2)
        _set_scale(index, weights)
        for start in range(0, len(memory), 256):
            rows = ReferenceSubset(memory.panel, memory.haplotypes[start : start + 256]).alleles(slice(0, n_sites))
            nibbles = np.zeros((len(rows), 2 * index.code_size), dtype=np.uint8)
            nibbles[:, :n_sites] = rows * 15
            index.add_sa_codes(nibbles[:, 0::2] | nibbles[:, 1::2] << 4)
        return cls(index)

    @classmethod
    def load(cls, path: Path, *, n_rows: int, n_sites: int) -> FaissKeyIndex:
        """Reads an index and checks its dimension, count and metric. Raises ArtifactError."""
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
                f"type, dimension, count and metric are {found}, and the memory needs {expected}",
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
        """Alleles uint8 [n_rows, t] as the codes of key dimensions ``sites`` hold them."""
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
        # As bytes: its own writer answers a full disk with an error that does not say so.
        path.write_bytes(import_faiss().serialize_index(self.index).tobytes())


def _set_scale(index: Any, weights: Tensor) -> None:
    root = weights.detach().float().cpu().clamp(min=0.0).sqrt().numpy()
    # The quantiser decodes code c to low + (c + 1/2) / 15 * width, so this maps 0 and 15 to 0 and sqrt(w).
    scale = np.concatenate([-root / 30.0, root]).astype(np.float32)
    import_faiss().copy_array_to_vector(scale, index.sq.trained)
    index.is_trained = True
