"""V17: retrieval in token space; query and retrieved each pass the whole encoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vcfbert.config import ModelConfig
from vcfbert.constants import REF_TOKEN
from vcfbert.model.base import SiteContext, Variant, WindowBatch, WindowOutput
from vcfbert.model.fusion import smoothed_logit


class V17(Variant):
    """Per site, the query's features attend to those of its k retrieved haplotypes; their plain vote is the base.

    Retrieved haplotypes are encoded unmasked, so their features depend on window and haplotype alone: inference
    encodes each once (``encode_retrieved``) however many queries retrieve it.
    """

    name = "v17"
    learned_metric = False

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
        """Tokens [n, l] through the whole encoder, [n, l, dims]."""
        encoded: Tensor = self.encoder(self.embedding(tokens, sites.features) + self.position(sites.offset_cm))
        return encoded

    def encode_retrieved(self, alleles: Tensor, sites: SiteContext) -> Tensor:
        """Features [n, l, dims] of haplotypes with ``alleles`` uint8 [n, l]."""
        return self.encode(alleles.long() + REF_TOKEN, sites)

    def forward(self, batch: WindowBatch, retrieved: Tensor | None = None) -> WindowOutput:
        """``retrieved`` [b, 2, k, l, dims]: features of the retrieved haplotypes where they are known already."""
        b, _, k, l = batch.retrieved.shape
        if retrieved is None:
            retrieved = self.encode_retrieved(batch.retrieved.view(b * 2 * k, l), batch.sites).view(b, 2, k, l, -1)
        query = self.encode(batch.tokens.view(2 * b, l), batch.sites).view(b, 2, l, -1)
        scale = query.shape[-1] ** -0.5
        scores = torch.einsum("bhld,bhkld->bhkl", self.query(query), retrieved) * scale
        attended = torch.einsum("bhkl,bhkld->bhld", torch.softmax(scores, dim=2), retrieved)
        fraction = batch.retrieved.float().mean(dim=2)  # [b, 2, l]
        fused = self.value(torch.cat([query, attended], dim=-1)) + self.vote(fraction[..., None])
        hidden = self.norm(query + torch.nn.functional.gelu(fused))
        base = smoothed_logit(fraction, batch.sites.af, self.smoothing.sigmoid())
        return self.output(hidden, base, batch.sites.af)
