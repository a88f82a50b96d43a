"""V17: retrieval by Hamming distance; the query and the retrieved haplotypes each pass the whole encoder."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vcfbert.constants import REF_TOKEN
from vcfbert.model.base import Features, Network, SiteContext, WindowBatch
from vcfbert.model.embedding import look_up
from vcfbert.model.fusion import fraction_or_frequency, smoothed_logit

if TYPE_CHECKING:
    from vcfbert.config import ModelConfig


class V17(Network):
    """At each site the query's features attend to those of its k retrieved haplotypes.

    The base logit is the logit of the ALT fraction among the retrieved. Retrieved haplotypes are encoded unmasked, so
    haplotypes with the same alleles in the window have the same features. Each distinct row passes the encoder once,
    however many queries of the batch retrieve it.
    """

    name = "v17"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.query = nn.Linear(config.dims, config.dims)
        self.value = nn.Linear(2 * config.dims, config.dims)
        self.vote = nn.Linear(1, config.dims)
        self.norm = nn.LayerNorm(config.dims)
        self.smoothing = nn.Parameter(torch.empty(()))

    def init_weights(self) -> None:
        super().init_weights()
        nn.init.constant_(self.smoothing, math.log(0.02 / 0.98))

    def encode(self, tokens: Tensor, sites: SiteContext) -> Tensor:
        """Features [n, l, dims] of ``tokens`` [n, l] from the whole encoder."""
        table = self.embedding.table(sites.features) + self.position(sites.offset_cm)[:, None]
        encoded: Tensor = self.encoder(look_up(tokens, table))
        return encoded

    def encode_patterns(self, patterns: Tensor, sites: SiteContext) -> Tensor:
        return self.encode(patterns.long() + REF_TOKEN, sites)

    def features(self, batch: WindowBatch, encoded: Tensor | None = None) -> Features:
        b, _, l = batch.tokens.shape
        if encoded is None:
            encoded = self.encode_patterns(batch.patterns, batch.sites)
        retrieved = encoded[batch.retrieved]  # [b, 2, k, l, dims]
        query = self.encode(batch.tokens.view(2 * b, l), batch.sites).view(b, 2, l, -1)
        scale = query.shape[-1] ** -0.5
        # Elementwise products and sums, not einsum: each site is a tiny product of its own, slow as a matmul.
        scores = (self.query(query)[:, :, None] * retrieved).sum(dim=-1) * scale  # [b, 2, k, l]
        attended = (torch.softmax(scores, dim=2)[..., None] * retrieved).sum(dim=2)  # [b, 2, l, dims]
        fraction = batch.patterns[batch.retrieved].float().mean(dim=2)  # [b, 2, l]
        fraction = fraction_or_frequency(fraction, batch.retrieved, batch.sites.af)
        fused = self.value(torch.cat([query, attended], dim=-1)) + self.vote(fraction[..., None])
        hidden = self.norm(query + torch.nn.functional.gelu(fused))
        base = smoothed_logit(fraction, batch.sites.af, self.smoothing.sigmoid())
        return self.with_logit(hidden, base)
