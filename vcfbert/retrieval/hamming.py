"""Fixed retrieval in token space: Hamming distance over the typed sites of the key span (V17)."""

from __future__ import annotations

import torch
from torch import Tensor

from vcfbert.retrieval.base import KeyIndex, nearest


class HammingRetriever:
    """Every typed site counts one, near or far. Implements ``Retriever``; its index has unit weights."""

    def __init__(self, index: KeyIndex) -> None:
        self.index = index

    def retrieve(
        self,
        sites: Tensor,
        distance_cm: Tensor,
        queries: Tensor,
        k: int,
        *,
        known: Tensor | None = None,
        exclude: Tensor | None = None,
    ) -> Tensor:
        return nearest(self.index, sites, queries, torch.ones_like(distance_cm), k, known, exclude)
