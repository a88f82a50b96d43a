"""The one interface of all variants: a batch of one window in, ALT logits out. Tensors only.

The dataclasses are not frozen because Lightning Fabric rebuilds them field by field when it casts precision.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vcfbert.config import ModelConfig
from vcfbert.model.embedding import AlleleEmbedding, PositionEmbedding
from vcfbert.model.encoder import Encoder
from vcfbert.model.fusion import RetrievalHeads
from vcfbert.model.heads import GenotypeHead, HaplotypeHead, independent
from vcfbert.model.li_stephens import LiStephens


@dataclass
class SiteContext:
    """What a batch's sites are; the same for all its queries. Dims: l sites of the window, t typed key sites."""

    features: Tensor  # float32 [l, F], embedding.site_features
    offset_cm: Tensor  # float32 [l], genetic position from the middle of the window
    af: Tensor  # float32 [l], ALT frequency in the memory
    key_features: Tensor  # float32 [t, F]
    key_distance_cm: Tensor  # float32 [t], from the nearer edge of the window, 0 inside
    key_offset_cm: Tensor  # float32 [t], as offset_cm
    key_af: Tensor  # float32 [t]
    key_place: Tensor  # int64 [t], from the window's first site; below 0 or from l on where outside it
    drawn: bool = False  # the queries are phasings drawn for samples, over which predictions are averaged


@dataclass
class WindowBatch:
    """b diploid queries of one window and the k haplotypes retrieved for each of their two haplotypes."""

    sites: SiteContext
    tokens: Tensor  # int64 [b, 2, l], MASK where untyped
    patterns: Tensor  # uint8 [u, l], distinct rows of the memory in this window, unmasked
    retrieved: Tensor  # int64 [b, 2, k], the pattern of each retrieved haplotype
    key_sign: Tensor  # int8 [b, 2, t], the query's typed alleles: 1 REF, -1 ALT, 0 unknown
    key_rows: Tensor  # uint8 [r, t], alleles of memory rows at the key sites
    key_retrieved: Tensor  # int64 [b, 2, k], which of them were retrieved
    # int64 [n, 2], where the queries are distinct haplotypes: those of each sample, numbered through [b, 2].
    pairs: Tensor | None = None


@dataclass
class WindowOutput:
    """Of the b samples, or of the n that ``pairs`` names."""

    probability: Tensor  # float32 [b, 2, l], of ALT
    coupled: Tensor | None = None  # float32 [b, l, 3], of 0, 1, 2 ALT alleles; None if the haplotypes are independent
    network_logit: Tensor | None = None  # float32 [b, 2, l], where a network gave the probability
    left_out: Tensor | None = None  # float32 [b, 2, t], ``probability`` at each key site had it not been typed

    @property
    def logit(self) -> Tensor:
        """[b, 2, l], of ALT: what losses take."""
        return torch.logit(self.probability, eps=1e-6) if self.network_logit is None else self.network_logit

    @property
    def genotype(self) -> Tensor:
        """[b, l, 3]: probabilities of 0, 1, 2 ALT alleles."""
        p = self.probability
        return independent(p[:, 0], p[:, 1]) if self.coupled is None else self.coupled


class Variant(nn.Module, ABC):
    """A model variant. Subclasses say how the retrieved meet the query."""

    name: ClassVar[str]
    is_hmm: ClassVar[bool] = False  # copies haplotypes by a recurrence, over windows of its own (``copy_window``)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = AlleleEmbedding(config.dims)

    def init_weights(self) -> None:
        self.embedding.init_weights()

    @property
    def phasing_hmm(self) -> LiStephens | None:
        """The HMM that phasings of a target are sampled from; None if the variant requires phased targets."""
        return None

    @property
    def takes_unphased(self) -> bool:
        """Whether targets may have unphased heterozygous calls."""
        return self.phasing_hmm is not None

    @property
    def retrieval_heads(self) -> RetrievalHeads | None:
        """The learned metric by which haplotypes are retrieved; None if the metric is fixed."""
        return None

    def encode_patterns(self, patterns: Tensor, sites: SiteContext) -> Any:
        """What a variant makes of the window's unmasked rows uint8 [u, l] whoever asks: V17 their features from the
        encoder, V19 the rows cut at the typed sites; None for the others. Inference asks once a window."""
        return None

    @abstractmethod
    def forward(self, batch: WindowBatch, encoded: Any = None) -> WindowOutput:
        """``encoded``: what ``encode_patterns`` gave for the batch's patterns, where it was asked."""


class Network(Variant):
    """A variant that predicts masked alleles: embedding, one encoder, two heads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.position = PositionEmbedding(config.dims)
        self.encoder = Encoder(config.dims, config.layers, config.heads, config.mlp_ratio, config.dropout)
        self.haplotype_head = HaplotypeHead(config.dims)
        self.genotype_head = GenotypeHead(config.dims)

    def init_weights(self) -> None:
        self.encoder.init_weights()
        super().init_weights()
        self.haplotype_head.init_weights()
        self.genotype_head.init_weights()

    def output(self, hidden: Tensor, base_logit: Tensor, batch: WindowBatch) -> WindowOutput:
        """``hidden`` [b, 2, l, dims], ``base_logit`` float32 [b, 2, l]: what retrieval alone says."""
        logit = base_logit + self.haplotype_head(hidden).float()
        if batch.pairs is not None:
            hidden, logit = hidden.flatten(0, 1)[batch.pairs], logit.flatten(0, 1)[batch.pairs]
        probability = logit.sigmoid()
        return WindowOutput(probability, self.genotype_head(hidden, probability, batch.sites.af), logit)
