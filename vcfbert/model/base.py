"""The interface of V17 and V18, which turn a batch of queries in one window into ALT probabilities. Tensors only.

The dataclasses are not frozen, because Lightning Fabric rebuilds them field by field when it casts precision.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from vcfbert.model.compiled import runs_compiled
from vcfbert.model.embedding import AlleleEmbedding, PositionEmbedding
from vcfbert.model.encoder import Encoder
from vcfbert.model.fusion import RetrievalHeads
from vcfbert.model.genotype_kernel import predict_pairs
from vcfbert.model.heads import GenotypeHead, HaplotypeHead, independent

if TYPE_CHECKING:
    from vcfbert.config import ModelConfig


@dataclass
class SiteContext:
    """The sites of a batch, the same for all its queries: l sites of the window and t key sites.

    Key sites are the typed sites of the retrieval window, which is wider than the window.
    """

    features: Tensor  # float32 [l, F], embedding.site_features
    offset_cm: Tensor  # float32 [l], genetic position from the middle of the window
    af: Tensor  # float32 [l], ALT frequency in the reference subset
    key_features: Tensor  # float32 [t, F]
    key_distance_cm: Tensor  # float32 [t], to the nearer edge of the window, 0 inside
    key_offset_cm: Tensor  # float32 [t], as offset_cm


@dataclass
class WindowBatch:
    """b diploid queries in one window, and the k haplotypes retrieved for each of their two haplotypes."""

    sites: SiteContext
    tokens: Tensor  # int64 [b, 2, l], MASK where untyped
    patterns: Tensor  # uint8 [u, l], distinct rows of the reference subset in this window, unmasked
    retrieved: Tensor  # int64 [b, 2, k], the pattern of each retrieved haplotype
    key_sign: Tensor  # int8 [b, 2, t], the query's typed alleles: 1 REF, -1 ALT, 0 unknown
    key_rows: Tensor  # uint8 [r, t], alleles of the reference subset's rows at the key sites
    key_retrieved: Tensor  # int64 [b, 2, k], the row of each retrieved haplotype


@dataclass
class Features:
    """What a model computes of each haplotype by itself, before the two of a sample meet."""

    hidden: Tensor  # [b, 2, l, dims]
    logit: Tensor  # float32 [b, 2, l], of ALT

    @classmethod
    def of_parts(cls, parts: Sequence[Features]) -> Features:
        """Joins batches."""
        return cls(torch.cat([part.hidden for part in parts]), torch.cat([part.logit for part in parts]))

    def of_pairs(self, pairs: Tensor) -> Features:
        """Those of n samples with the haplotypes ``pairs`` int64 [n, 2], indices into the flattened [b, 2]."""
        return Features(self.hidden.flatten(0, 1)[pairs], self.logit.flatten(0, 1)[pairs])


@dataclass
class WindowOutput:
    """Predictions for b samples."""

    probability: Tensor  # float32 [b, 2, l], of ALT
    coupled: Tensor | None = None  # float32 [b, l, 3], of 0, 1, 2 ALT alleles; None if haplotypes are independent
    network_logit: Tensor | None = None  # float32 [b, 2, l], of ALT; None if no network gave the probability

    @classmethod
    def of_parts(cls, parts: Sequence[WindowOutput]) -> WindowOutput:
        """Joins predictions for inference, without logits of the network."""
        coupled = [part.coupled for part in parts if part.coupled is not None]
        return cls(torch.cat([part.probability for part in parts]), torch.cat(coupled) if coupled else None)

    @property
    def logit(self) -> Tensor:
        """[b, 2, l], logit of ALT, for the losses."""
        return torch.logit(self.probability, eps=1e-6) if self.network_logit is None else self.network_logit

    @property
    def genotype(self) -> Tensor:
        """[b, l, 3]: probabilities of 0, 1, 2 ALT alleles."""
        p = self.probability
        return independent(p[:, 0], p[:, 1]) if self.coupled is None else self.coupled


class Variant(nn.Module, ABC):
    """Base of V17 and V18, which predict ALT probabilities from the query and the retrieved haplotypes."""

    name: ClassVar[str]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = AlleleEmbedding(config.dims)

    def init_weights(self) -> None:
        self.embedding.init_weights()

    @property
    def retrieval_heads(self) -> RetrievalHeads | None:
        """The learned metric by which haplotypes are retrieved; None if the metric is fixed."""
        return None

    def encode_patterns(self, patterns: Tensor, sites: SiteContext) -> Any:
        """What the forward pass needs of the window's unmasked rows uint8 [u, l] and does not depend on the query.

        V17 returns their features from the encoder, other variants None. Inference calls it once per window.
        """
        return None

    @abstractmethod
    def features(self, batch: WindowBatch, encoded: Any = None) -> Features:
        """``encoded``: the result of ``encode_patterns`` for the batch's patterns, if it was called before."""

    @abstractmethod
    def output(self, features: Features, sites: SiteContext) -> WindowOutput:
        """The predictions for samples from the features of their haplotypes."""

    def output_of_pairs(
        self, features: Features, pairs: Tensor, sites: SiteContext, *, batch_size: int
    ) -> WindowOutput:
        """The predictions for n samples with the haplotypes ``pairs`` int64 [n, 2], ``batch_size`` samples at a time.

        The pairs are indices into the flattened [b, 2] of ``features``. Samples share haplotypes, so inference computes
        the features of each distinct one once.
        """
        return WindowOutput.of_parts(
            [self.output(features.of_pairs(some), sites) for some in torch.split(pairs, batch_size)]
        )

    def forward(self, batch: WindowBatch, encoded: Any = None) -> WindowOutput:
        """The predictions for the queries of a batch; ``encoded`` as for ``features``."""
        return self.output(self.features(batch, encoded), batch.sites)


class Network(Variant):
    """A variant that predicts masked alleles by an embedding, one encoder and two heads."""

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

    def output(self, features: Features, sites: SiteContext) -> WindowOutput:
        probability = features.logit.sigmoid()
        return WindowOutput(probability, self.genotype_head(features.hidden, probability, sites.af), features.logit)

    def output_of_pairs(
        self, features: Features, pairs: Tensor, sites: SiteContext, *, batch_size: int
    ) -> WindowOutput:
        if not runs_compiled(self, features.hidden):
            return super().output_of_pairs(features, pairs, sites, batch_size=batch_size)
        hidden, logit = (one.flatten(0, 1).contiguous().numpy() for one in (features.hidden, features.logit))
        head = self.genotype_head.weights(sites.af)
        alt, genotype = predict_pairs(hidden, logit, pairs.contiguous().numpy(), head, threads=torch.get_num_threads())
        return WindowOutput(torch.from_numpy(alt).permute(1, 2, 0), torch.from_numpy(genotype).permute(1, 0, 2))

    def with_logit(self, hidden: Tensor, base_logit: Tensor) -> Features:
        """Features of ``hidden`` [b, 2, l, dims]. ``base_logit`` [b, 2, l] is that of retrieval alone."""
        return Features(hidden, base_logit + self.haplotype_head(hidden).float())
