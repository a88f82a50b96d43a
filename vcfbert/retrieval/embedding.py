"""Learned retrieval: L2 distance between flattened embeddings of the typed sites (V18), as of the last refresh."""

from __future__ import annotations

import torch
from torch import Tensor

from vcfbert.model.fusion import search_profile
from vcfbert.model.v18 import V18
from vcfbert.retrieval.base import KeyIndex, Retriever


class EmbeddingRetriever(Retriever):
    """Ranks by the embedding's weights, faded with distance as the model's retrieval heads have learned.

    Weights and fading are snapshots: between refreshes the model trains on and the ranking stays, while the weights
    of the retrieved are computed with the model's current values.
    """

    def __init__(self, index: KeyIndex, decay: Tensor, temperature: Tensor) -> None:
        super().__init__(index)
        self.decay = decay
        self.temperature = temperature

    def update(self, model: V18, features: Tensor) -> None:
        """Takes weights and fading from the model as it is now. ``features`` [n_sites, F]."""
        with torch.no_grad():
            self.index.refresh(model.embedding.allele_weights(features).float())
            self.decay = model.retrieval.log_decay.exp().detach().clone()
            self.temperature = model.retrieval.log_temperature.exp().detach().clone()

    def profile(self, distance_cm: Tensor) -> Tensor:
        device = distance_cm.device
        return search_profile(self.decay.to(device), self.temperature.to(device), distance_cm)
