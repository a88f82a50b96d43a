"""V18: retrieval by a learned distance; the retrieved haplotypes join the query before one pass of the encoder."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcfbert.constants import ALT_TOKEN, REF_TOKEN
from vcfbert.model.base import Features, Network, WindowBatch
from vcfbert.model.embedding import look_up
from vcfbert.model.fusion import INITIAL_DECAY, RetrievalHeads, fraction_or_frequency, smoothed_logit

if TYPE_CHECKING:
    from vcfbert.config import ModelConfig


class V18(Network):
    """The weighted mean of the retrieved embeddings is added to the query's embedding, and the encoder runs once.

    Pooling is linear in the allele: sum_k a_k E(l, allele_k) = E(l, REF) + p_l (E(l, ALT) - E(l, REF)), where p_l is
    the weighted ALT fraction. So no [b, k, l, dims] tensor is needed, and the cost hardly depends on K.
    """

    name = "v18"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        n_heads = len(INITIAL_DECAY)
        self.retrieval = RetrievalHeads()
        self.pooled = nn.Linear(config.dims, config.dims)
        self.evidence = nn.Linear(3 * n_heads, config.dims)
        self.mixture = nn.Parameter(torch.empty(n_heads))
        self.smoothing = nn.Parameter(torch.empty(()))

    def init_weights(self) -> None:
        super().init_weights()
        self.retrieval.init_weights()
        nn.init.zeros_(self.mixture)
        nn.init.constant_(self.smoothing, math.log(0.02 / 0.98))

    @property
    def retrieval_heads(self) -> RetrievalHeads:
        return self.retrieval

    def features(self, batch: WindowBatch, encoded: Tensor | None = None) -> Features:
        sites = batch.sites
        # In float32: distances are differences of large sums, and fractions lie near 0 and 1.
        with torch.autocast(batch.tokens.device.type, enabled=False):
            weights = self.copying_weights(batch)  # [b, 2, heads, k]
            fractions = self.alt_fraction(weights, batch)  # [b, 2, heads, l]
            fractions = fraction_or_frequency(fractions, batch.retrieved, sites.af)
            fraction = torch.einsum("bhrl,r->bhl", fractions, torch.softmax(self.mixture, dim=0))

        # The projection of the pooled embedding is linear in the fraction too, so it is applied once per site.
        table = self.embedding.table(sites.features)  # [l, N_TOKENS, dims]
        pooled = F.linear(table[:, ALT_TOKEN] - table[:, REF_TOKEN], self.pooled.weight)  # [l, dims]
        table = table + (self.position(sites.offset_cm) + self.pooled.bias)[:, None]
        x = torch.addcmul(look_up(batch.tokens, table), fraction[..., None], pooled)  # [b, 2, l, dims]
        x = x + self.evidence(self._evidence(weights, fractions))

        b, _, l = batch.tokens.shape
        hidden = self.encoder(x.view(2 * b, l, -1)).view(b, 2, l, -1)
        base = smoothed_logit(fraction, sites.af, self.smoothing.sigmoid())
        return self.with_logit(hidden, base)

    @staticmethod
    def alt_fraction(weights: Tensor, batch: WindowBatch) -> Tensor:
        """Weighted ALT fraction [b, 2, heads, l], from ``weights`` [b, 2, heads, k].

        The weights of retrieved haplotypes with the same pattern are summed before one product with the patterns.
        """
        onto = batch.retrieved[:, :, None].expand_as(weights)
        by_pattern = weights.new_zeros(*weights.shape[:-1], len(batch.patterns)).scatter_add(-1, onto, weights)
        pooled: Tensor = by_pattern @ batch.patterns.to(weights.dtype)
        return pooled

    def copying_weights(self, batch: WindowBatch) -> Tensor:
        """softmax(-distance / tau) over the retrieved, [b, 2, heads, k]."""
        allele_weights = self.embedding.allele_weights(batch.sites.key_features)
        site_weights = self.retrieval.site_weights(allele_weights, batch.sites.key_distance_cm)
        weights: Tensor = self.retrieval(batch.key_sign, batch.key_rows, batch.key_retrieved, site_weights)
        return weights

    @staticmethod
    def _evidence(weights: Tensor, fractions: Tensor) -> Tensor:
        """Features [b, 2, l, 3 * heads] of each head's vote: ALT fraction, its standard deviation, and the logarithm of
        the effective number of haplotypes, 1 / sum of squared weights."""
        n_effective = 1.0 / weights.square().sum(dim=-1).clamp(min=1e-6)  # [b, 2, heads]; 0 where none was retrieved
        log_count = n_effective.log().div(4.0)[..., None].expand_as(fractions)
        spread = (fractions * (1.0 - fractions)).clamp(min=1e-6).sqrt()
        return torch.cat([fractions, spread, log_count], dim=2).transpose(-1, -2)
