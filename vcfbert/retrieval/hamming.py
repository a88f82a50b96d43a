"""Fixed retrieval in token space: Hamming distance over the typed sites of the retrieval window (V17)."""

from __future__ import annotations

import torch
from torch import Tensor

from vcfbert.retrieval.base import Retriever


class HammingRetriever(Retriever):
    """Every typed site counts one, near or far; its index has unit weights."""

    def profile(self, distance_cm: Tensor) -> Tensor:
        return torch.ones_like(distance_cm)
