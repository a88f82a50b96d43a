"""What is predicted at the sites of one window, and the protocol of the predictors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vcfbert.bundle.contents import Part
from vcfbert.genotypes.windows import Window
from vcfbert.imputation.phasing import PhasedTarget
from vcfbert.kernels import Floats, Indices


@dataclass(frozen=True)
class WindowPrediction:
    """The prediction at the l sites of a window for n samples."""

    haplotype: Floats  # [l, n, 2], ALT probabilities
    genotype: Floats | None  # [l, n, 3], genotype probabilities; None if the two haplotypes are independent
    typed: Indices  # int64 [m], ascending: the sites that have leave-one-out probabilities, counted from the first
    loo: Floats | None  # [m, n, 2], leave-one-out ALT probabilities, each without its own call; None if not computed

    @classmethod
    def empty(cls, l: int, n: int, typed: Indices, *, coupled: bool) -> WindowPrediction:
        """A prediction to be filled. ``coupled``: with genotype probabilities."""
        genotype = np.empty((l, n, 3), np.float32) if coupled else None
        loo = np.empty((len(typed), n, 2), np.float32)
        return cls(np.empty((l, n, 2), np.float32), genotype, typed, loo)

    def weigh(self, weight: Floats) -> None:
        """Multiplies the values of each site by its ``weight`` [l], in place."""
        shared = np.flatnonzero(weight != 1.0)  # with another window
        for values in (self.haplotype, self.genotype):
            if values is not None:
                values[shared] *= weight[shared, None, None]
        if self.loo is not None:
            self.loo[:] *= weight[self.typed, None, None]

    def add(self, before: WindowPrediction) -> None:
        """Adds the prediction ``before`` of the first sites, in place."""
        for name in ("haplotype", "genotype", "loo"):
            own, other = getattr(self, name), getattr(before, name)
            if other is not None:
                own[: len(other)] += other

    def sites(self, start: int, stop: int) -> WindowPrediction:
        """The sites [start, stop), without a copy."""
        first, last = np.searchsorted(self.typed, [start, stop])
        return WindowPrediction(
            self.haplotype[start:stop],
            None if self.genotype is None else self.genotype[start:stop],
            self.typed[first:last] - start,
            None if self.loo is None else self.loo[first:last],
        )

    def copied(self) -> WindowPrediction:
        """A copy, which does not keep alive the arrays that this one is a part of."""
        return WindowPrediction(
            self.haplotype.copy(),
            None if self.genotype is None else self.genotype.copy(),
            self.typed.copy(),
            None if self.loo is None else self.loo.copy(),
        )

    @property
    def loo_of_sites(self) -> Floats | None:
        """[l, n, 2]: ``loo`` at all sites, NaN where not typed."""
        if self.loo is None:
            return None
        at_sites = np.full(self.haplotype.shape, np.nan, dtype=np.float32)
        at_sites[self.typed] = self.loo
        return at_sites


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
    """Predicts windows of a bundle's panels. Thread-safe; keeps no data of samples.

    ``windows_at_once``: the number of windows of one target that are best predicted side by side, in threads.
    """

    windows_at_once: int

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
