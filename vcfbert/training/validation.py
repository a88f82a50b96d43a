"""Scores predictions of masked alleles of the panel itself, for validation and for the *masked* protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vcfbert.config import EvaluateConfig, MaskConfig
from vcfbert.errors import InputError
from vcfbert.genotypes.masks import array_mask, fixed_rate_mask
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.windows import Window
from vcfbert.imputation.window_prediction import HeldOutPredictor
from vcfbert.metrics.accuracy import ALL, DosageR2, F1Counter

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
    """Typed sites of the masked protocol, without symbolic alleles.

    ``config`` gives the fractions of common and of rare sites that are masked, and the MAF below which all are masked.
    """
    maf, symbolic = reference.panel.maf, reference.panel.sites.symbolic

    def typed(window: Window) -> npt.NDArray[np.bool_]:
        chosen = fixed_rate_mask(
            maf[window.retrieval_sites],
            seed=seed,
            window=window.index,
            rate=config.mask_rate,
            rare_rate=config.mask_rare,
            min_maf=config.min_maf,
        )
        return chosen & ~symbolic[window.retrieval_sites]

    return typed


def array_typing(reference: ReferenceSubset, masks: MaskConfig, seed: int) -> TypedSites:
    """Typed sites as of an array, none of them symbolic.

    Its density is the geometric mean of the range trained on, in every window.
    """
    maf = np.where(reference.panel.sites.symbolic, 0.0, np.minimum(reference.af, 1.0 - reference.af))
    density = float(np.sqrt(masks.array_density[0] * masks.array_density[1]))

    def typed(window: Window) -> npt.NDArray[np.bool_]:
        return array_mask(maf[window.retrieval_sites], np.random.default_rng([seed, window.index]), density)

    return typed


def score_windows(
    predict: HeldOutPredictor,
    panel: Panel,
    windows: list[Window],
    haplotypes: npt.NDArray[np.int64],
    typed_sites: TypedSites,
    *,
    min_maf: float = 0.0,
) -> Scores:
    """Scores predictions of the masked alleles of panel ``haplotypes`` int64 [2n] in the windows' cores.

    Each sample's two haplotypes are consecutive. Sites whose MAF in the panel is below ``min_maf`` are not scored.
    """
    scores = Scores()
    for window in windows:
        typed = typed_sites(window)  # [sites of the retrieval window]
        key = np.flatnonzero(typed).astype(np.int64) + window.retrieval[0]
        core = slice(window.core[0] - window.start, window.core[1] - window.start)
        predicted = predict(window, key, haplotypes)[:, :, core]  # [n, 2, sites of the core]
        truth = panel.alleles(slice(*window.core), haplotypes).reshape(predicted.shape)
        maf, af = panel.maf[slice(*window.core)], panel.af[slice(*window.core)]
        masked = ~typed[window.core[0] - window.retrieval[0] : window.core[1] - window.retrieval[0]]
        scored = masked & (maf >= min_maf)
        _add(scores, truth[:, :, scored], predicted[:, :, scored], maf[scored], af[scored])
    return scores


def figures(masked: Scores, array: Scores) -> dict[str, float]:
    """The figures to log: F1 by the ``masked`` protocol, dosage r2 at sites typed as by an ``array``, loss by both.

    Raises InputError('too_few_sites') where r2 has no site.
    """
    if ALL not in array.r2.values():
        raise InputError(
            "too_few_sites",
            "the panel has no site to validate: no site that varies is left to impute beside those that an array types",
            hint="give a panel with more sites, or of a longer region",
        )
    loss = (masked.loss + array.loss) / max(masked.count + array.count, 1)
    r2 = {f"val/r2/{name.rstrip('%')}": value for name, value in array.r2.values().items()}
    f1 = {f"val/{name}": value for name, value in masked.f1.values().items()}
    return {"val/loss": loss, **f1, **r2}


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
