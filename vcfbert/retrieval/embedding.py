"""Learned retrieval (V18): L2 distance between flattened embeddings of the typed sites, as of the last refresh."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from torch import Tensor

from vcfbert.model.base import Variant
from vcfbert.model.fusion import RetrievalHeads, search_profile
from vcfbert.retrieval.base import KeyIndex, Retriever


@torch.no_grad()
def site_weights(model: Variant, features: Tensor, *, rank: int = 0, world: int = 1) -> Tensor:
    """float32 [n_sites]: what a mismatch at each site adds to the squared distance, by the model's current weights.

    ``features`` [n_sites, F]. With several ranks, each computes the weights of its own part of the sites, so all ranks
    must call it together.
    """
    own = model.embedding.allele_weights(features.tensor_split(world)[rank]).float()
    if world == 1:
        return own
    longest = -(-len(features) // world)
    parts = [own.new_empty(longest) for _ in range(world)]
    torch.distributed.all_gather(parts, torch.nn.functional.pad(own, (0, longest - len(own))))
    lengths = [len(part) for part in features.tensor_split(world)]
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])


class EmbeddingRetriever(Retriever):
    """Ranks by the embedding's site weights, which decay with distance from the window as the retrieval heads learned.

    Weights and decay are copies. Between refreshes the model keeps training and the ranking stays the same, but the
    copying weights of the retrieved haplotypes are computed from the model's current values.
    """

    is_learned = True

    def __init__(self, index: KeyIndex, heads: RetrievalHeads) -> None:
        """``index`` keeps its site weights until ``update``."""
        super().__init__(index)
        self.decay, self.temperature = heads.decay_and_temperature()

    def update(self, heads: RetrievalHeads, weights: Tensor) -> None:
        self.index.refresh(weights)
        self.decay, self.temperature = heads.decay_and_temperature()

    def snapshot(self) -> dict[str, Any]:
        return {"weights": self.index.weights, "decay": self.decay, "temperature": self.temperature}

    def restore(self, snapshot: dict[str, Any]) -> None:
        self.index.refresh(snapshot["weights"])
        self.decay, self.temperature = snapshot["decay"], snapshot["temperature"]

    def profile(self, distance_cm: Tensor) -> Tensor:
        device = distance_cm.device
        return search_profile(self.decay.to(device), self.temperature.to(device), distance_cm)
