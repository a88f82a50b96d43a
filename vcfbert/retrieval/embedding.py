"""Learned retrieval: L2 distance between flattened embeddings of the typed sites (V18), as of the last refresh."""

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
    """[n_sites]: what a mismatch at each site adds to the distance, by the model as it is now. ``features``
    [n_sites, F]. Of several ranks each computes those of its own stretch of sites, and all are asked at once."""
    own = model.embedding.allele_weights(features.tensor_split(world)[rank]).float()
    if world == 1:
        return own
    longest = -(-len(features) // world)
    stretches = [own.new_empty(longest) for _ in range(world)]
    torch.distributed.all_gather(stretches, torch.nn.functional.pad(own, (0, longest - len(own))))
    lengths = [len(part) for part in features.tensor_split(world)]
    return torch.cat([stretch[:length] for stretch, length in zip(stretches, lengths, strict=True)])


class EmbeddingRetriever(Retriever):
    """Ranks by the embedding's weights, faded with distance as the model's retrieval heads have learned.

    Weights and fading are snapshots: between refreshes the model trains on and the ranking stays, while the weights
    of the retrieved are computed with the model's current values.
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
