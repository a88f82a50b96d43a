"""What is predicted at the sites of one window, and the protocol of the predictors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vcfbert.bundle.contents import Part
from vcfbert.genotypes.windows import Window
from vcfbert.imputation.phasing import PhasedTarget
from vcfbert.kernels import Doubles, Floats, Indices


@dataclass(frozen=True)
class WindowPrediction:
    """The prediction at the l sites of a window for n samples."""

    haplotype: Floats  # [l, n, 2], ALT probabilities
    genotype: Floats | None  # [l, n, 3], genotype probabilities; None if the two haplotypes are independent
    # [l, n, 2]: leave-one-out ALT probabilities of typed sites, each without its own call, NaN elsewhere. None if the
    # model does not give them.
    loo: Floats | None = None

    @property
    def genotypes(self) -> Floats:
        """Genotype probabilities [l, n, 3], also for independent haplotypes."""
        if self.genotype is not None:
            return self.genotype
        return of_independent(self.haplotype)

    def times(self, weight: Floats) -> WindowPrediction:
        """The values of each site multiplied by its ``weight`` [l]."""
        return self._each(lambda values: values * weight[:, None, None])

    def sites(self, inside: slice) -> WindowPrediction:
        return self._each(lambda values: values[inside])

    def _each(self, change: Callable[[Floats], Floats]) -> WindowPrediction:
        genotype, loo = self.genotype, self.loo
        return WindowPrediction(
            change(self.haplotype),
            None if genotype is None else change(genotype),
            None if loo is None else change(loo),
        )


def _unobserved(seconds: float) -> None:
    pass


@dataclass(frozen=True)
class PredictorOptions:
    """How a predictor works; results do not depend on it.

    ``batch_size``: samples predicted at once. ``kept_bytes``: maximum host memory for windows kept for the next target
    with the same typed sites. ``threads``: all that the process may use if None. ``observe_retrieval``: receives the
    seconds of each choice of haplotypes.
    """

    batch_size: int = 64
    kept_bytes: int = 0
    threads: int | None = None
    observe_retrieval: Callable[[float], None] = _unobserved


class WindowPredictor(Protocol):
    """Predicts windows of a bundle's panels. Thread-safe; keeps no data of samples."""

    def predict(self, part: Part, window: Window, phased: PhasedTarget) -> WindowPrediction:
        """Predicts all samples of a target at the window's sites.

        A sample with sampled phasings gets the mean over them, with its haplotypes in the order of its consensus phase.
        Every other sample is predicted along its given phase.
        """


class HeldOutPredictor(Protocol):
    """Predicts haplotypes of the panel itself from some of their alleles, for validation."""

    def __call__(self, window: Window, key: Indices, haplotypes: Indices) -> Floats:
        """ALT probabilities float32 [n, 2, l] of the panel's ``haplotypes`` int64 [2n], typed at ``key`` int64 [t].

        Each sample's two haplotypes are consecutive. Neither of them is retrieved.
        """


def of_independent(haplotype: Floats) -> Floats:
    """Genotype probabilities [..., 3] of independent haplotypes with ALT probabilities [..., 2]."""
    p, q = haplotype[..., 0], haplotype[..., 1]
    both = p * q
    either = p + q - both
    return np.stack([1.0 - either, either - both, both], axis=-1)


def nearest_key(cm: Doubles, key_cm: Doubles) -> Indices:
    """int64 [l]: the key site that lies nearest to each site, by genetic position; ``cm`` [l], ``key_cm`` [t]."""
    right = np.searchsorted(key_cm, cm).clip(max=len(key_cm) - 1)
    left = (right - 1).clip(min=0)
    return np.where(np.abs(cm - key_cm[left]) <= np.abs(key_cm[right] - cm), left, right)


def side_by_side(parts: list[tuple[Indices, WindowPrediction]]) -> WindowPrediction:
    """Joins predictions of disjoint sets of samples, given by their indices, into one of all samples in order."""
    if len(parts) == 1:
        return parts[0][1]
    order = np.argsort(np.concatenate([samples for samples, _ in parts]))

    def joined(name: str) -> Floats:
        return np.concatenate([getattr(part, name) for _, part in parts], axis=1)[:, order]

    loo = None if any(part.loo is None for _, part in parts) else joined("loo")
    return WindowPrediction(joined("haplotype"), joined("genotypes"), loo)
