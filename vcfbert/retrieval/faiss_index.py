"""Key search with FAISS in tensors.

torch is imported before FAISS here, because both bring an OpenMP runtime.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.retrieval.faiss_keys import FaissKeys, import_faiss, nearest_rows, read_index


class FaissKeyIndex:
    """A 4-bit scalar quantiser over the keys of all sites, [n_rows, n_sites]. Implements ``KeyIndex``.

    A key has two values, 0 and sqrt(w_l), so four bits hold it without loss: code 0 or 15 on the site's own scale. A
    refresh replaces the scales and no code. A search reads the columns of the typed sites.
    """

    def __init__(self, index: Any) -> None:
        self.index = index
        self.keys = FaissKeys(index)
        self.weights = torch.from_numpy(self.keys.weights())

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
        return cls(read_index(path, n_rows=n_rows, n_sites=n_sites))

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def refresh(self, weights: Tensor) -> None:
        self.weights = weights.detach().float().cpu()
        _set_scale(self.index, self.weights)

    def search(self, sites: Tensor, coordinates: Tensor, k: int) -> tuple[Tensor, Tensor]:
        alleles = self.keys.columns(sites.cpu().numpy())
        own = self.weights[sites.cpu()].numpy()
        distances, rows = nearest_rows(alleles, own, coordinates.detach().float().cpu().numpy(), k)
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
