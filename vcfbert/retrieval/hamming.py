"""Fixed retrieval (V17): Hamming distance over the typed sites of the retrieval window."""

from __future__ import annotations

import torch
from torch import Tensor

from vcfbert.retrieval.base import Retriever


class HammingRetriever(Retriever):
    """Every typed site counts the same at any distance. Its index must have unit weights."""

    def profile(self, distance_cm: Tensor) -> Tensor:
        return torch.ones_like(distance_cm)
