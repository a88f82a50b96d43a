"""Key search in plain torch, for GPUs and for systems without FAISS."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vcfbert.errors import MissingExtraError
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.retrieval.faiss_keys import check_k


class TorchKeyIndex:
    """Reads the keys from the bit-packed reference subset and ranks by one matrix product. Implements ``KeyIndex``."""

    def __init__(self, reference: ReferenceSubset, weights: Tensor) -> None:
        self.reference = reference
        self.weights = weights

    def __len__(self) -> int:
        return len(self.reference)

    def refresh(self, weights: Tensor) -> None:
        self.weights = weights

    def search(self, sites: Tensor, coordinates: Tensor, k: int) -> tuple[Tensor, Tensor]:
        check_k(k, len(self))
        device = coordinates.device
        alleles = torch.from_numpy(self.reference.alleles(sites.cpu().numpy())).to(device, torch.float64)
        w, y = self.weights.to(device)[sites.to(device)].double(), coordinates.double()
        # |sqrt(w) (r - y)|^2 with r in {0, 1}: w y^2 + r w (1 - 2y)
        distances = (w * y.square()).sum(dim=1, keepdim=True) + (w * (1.0 - 2.0 * y)) @ alleles.T
        return _nearest_rows(distances.float().clamp(min=0.0), k)

    def save(self, path: Path) -> None:
        raise MissingExtraError(
            "faiss_missing",
            "the index is stored in FAISS's format, and FAISS is not installed",
            hint="pip install faiss-cpu",
        )


def _nearest_rows(distances: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest of non-negative float32 ``distances`` [n, m], ascending, and their columns; ties by column.

    The bits of non-negative floats order as integers do. So distance and column form one int64 to rank by.
    """
    column = torch.arange(distances.shape[1], device=distances.device)
    ranked = distances.view(torch.int32).long() << 32 | column
    rows = torch.topk(ranked, k, dim=1, largest=False, sorted=True).values & 0xFFFFFFFF
    return distances.gather(1, rows), rows
