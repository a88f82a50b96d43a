"""Scores predictions of masked alleles of the panel itself, for validation and for the *masked* protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from vcfbert.config import EvaluateConfig, MaskConfig
from vcfbert.genotypes.masks import array_mask, fixed_rate_mask
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.windows import Window
from vcfbert.imputation.query_batches import predict_batches
from vcfbert.metrics.accuracy import DosageR2, F1Counter
from vcfbert.model.base import Variant
from vcfbert.retrieval.base import Retriever
from vcfbert.retrieval.context import WindowContext
from vcfbert.retrieval.ready import ReadyWindow

MAX_VALIDATED = 200  # samples; on large panels, validating all would take longer than training

TypedSites = Callable[[Window], npt.NDArray[np.bool_]]  # which sites [of the retrieval window] are typed


@dataclass
class Scores:
    """Accumulated scores over masked sites."""

    f1: F1Counter = field(default_factory=F1Counter)
    r2: DosageR2 = field(default_factory=DosageR2)
    loss: float = 0.0  # sum of cross-entropies, nats
    count: int = 0  # alleles scored

    def merge(self, other: Scores) -> None:
        """Adds the scores of other sites or samples."""
        self.f1.merge(other.f1)
        self.r2.merge(other.r2)
        self.loss += other.loss
        self.count += other.count

    @property
    def mean_loss(self) -> float:
        return self.loss / max(self.count, 1)


def masked_typing(reference: ReferenceSubset, config: EvaluateConfig, seed: int) -> TypedSites:
    """Typed sites of the masked protocol.

    ``config`` gives the fractions of common and of rare sites that are masked, and the MAF below which all are masked.
    """
    maf = reference.panel.maf

    def typed(window: Window) -> npt.NDArray[np.bool_]:
        return fixed_rate_mask(
            maf[window.retrieval_sites],
            seed=seed,
            window=window.index,
            rate=config.mask_rate,
            rare_rate=config.mask_rare,
            min_maf=config.min_maf,
        )

    return typed


def array_typing(reference: ReferenceSubset, masks: MaskConfig, seed: int) -> TypedSites:
    """Typed sites as of an array. Its density is the geometric mean of the range trained on, in every window."""
    maf = np.minimum(reference.af, 1.0 - reference.af)
    density = float(np.sqrt(masks.array_density[0] * masks.array_density[1]))

    def typed(window: Window) -> npt.NDArray[np.bool_]:
        return array_mask(maf[window.retrieval_sites], np.random.default_rng([seed, window.index]), density)

    return typed


@torch.no_grad()
def score_windows(
    model: Variant,
    retriever: Retriever,
    reference: ReferenceSubset,
    features: torch.Tensor,
    windows: list[Window],
    haplotypes: npt.NDArray[np.int64],
    typed_sites: TypedSites,
    *,
    k: int,
    batch_size: int,
    min_maf: float = 0.0,
) -> Scores:
    """Scores predictions of the masked alleles of panel ``haplotypes`` int64 [2n] in the windows' cores.

    Each sample's two haplotypes are consecutive. ``features`` [n_sites, F]: ``reference_features``. ``k``: rows
    retrieved for each haplotype. A haplotype of the reference subset retrieves neither itself nor the other one of its
    sample. Sites whose MAF in the panel is below ``min_maf`` are not scored.
    """
    device = features.device
    panel = reference.panel
    own = torch.from_numpy(reference.rows_of_sample(haplotypes)).to(device)
    exclude = own if bool((own >= 0).any()) else None  # -1, not in the subset, excludes nothing
    scores = Scores()
    model.eval()
    for window in windows:
        key = np.flatnonzero(typed_sites(window)).astype(np.int64) + window.retrieval[0]
        context = WindowContext.build(reference, features, window, key, device)
        queries = torch.from_numpy(panel.alleles(key, haplotypes)).to(device)
        parts = [
            output.probability
            for output in predict_batches(
                model, retriever, ReadyWindow(context), queries, None, k=k, batch_size=batch_size, exclude=exclude
            )
        ]
        core = slice(window.core[0] - window.start, window.core[1] - window.start)
        predicted = torch.cat(parts).float()[:, :, core].cpu().numpy()  # [n, 2, sites of the core]
        truth = panel.alleles(slice(*window.core), haplotypes).reshape(predicted.shape)
        maf = panel.maf[slice(*window.core)]
        scored = ~context.typed[core].cpu().numpy() & (maf >= min_maf)
        _add(scores, truth[:, :, scored], predicted[:, :, scored], maf[scored], panel.af[slice(*window.core)][scored])
    return scores


def _add(
    scores: Scores,
    truth: npt.NDArray[np.uint8],
    predicted: npt.NDArray[np.float32],
    maf: npt.NDArray[np.float64],
    af: npt.NDArray[np.float64],
) -> None:
    scores.f1.update(truth, predicted, maf)
    scores.r2.update(truth.sum(axis=1).T, predicted.sum(axis=1).T, af)
    given = np.where(truth == 1, predicted, 1.0 - predicted).clip(1e-7, 1.0)
    scores.loss -= float(np.log(given).sum())
    scores.count += given.size
