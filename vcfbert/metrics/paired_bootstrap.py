"""Paired differences of aggregate r2 between two evaluations, by MAF bin, with bootstrap intervals.

Intervals are percentile bootstraps of the difference (Efron and Tibshirani 1993, chapter 13), over samples and over
genome blocks. Errors are correlated between relatives and between neighbouring sites, so the wider interval decides.

Intervals are simultaneous: 95% of the resamples lie within them in every bin. In simulations, intervals of single bins
called a candidate that was no worse "worse" in some bin in 1 of 9 comparisons; simultaneous ones did in 1 of 27.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vcfbert.constants import MAF_BIN_NAMES
from vcfbert.errors import InputError
from vcfbert.metrics.accuracy import ALL, Floats
from vcfbert.metrics.r2_sums import R2Sums

Verdict = Literal["better", "worse", "even", "unknown"]

RESAMPLES = 2000
SEED = 17
MIN_UNITS = 10  # samples or blocks with pairs that a bin needs for an interval
_LEVEL = 0.95
_CELLS = 1 << 22  # counts sampled at once: 32 MB


@dataclass(frozen=True)
class Interval:
    """The interval of a difference; NaN if it is unknown."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """Infinite if the interval is unknown."""
        return self.high - self.low if math.isfinite(self.low) else math.inf


@dataclass(frozen=True)
class Difference:
    """The difference of aggregate r2 in one bin, candidate minus baseline."""

    bin: str
    candidate: float
    baseline: float
    over_samples: Interval
    over_blocks: Interval

    @property
    def value(self) -> float:
        """Candidate minus baseline."""
        return self.candidate - self.baseline

    @property
    def decisive(self) -> Interval:
        """The wider interval; an unknown interval if either is unknown."""
        return max(self.over_blocks, self.over_samples, key=lambda interval: interval.width)

    @property
    def verdict(self) -> Verdict:
        """better or worse if the decisive interval excludes 0, else even; unknown without an interval."""
        interval = self.decisive
        if not math.isfinite(interval.width):
            return "unknown"
        if interval.low > 0.0:
            return "better"
        return "worse" if interval.high < 0.0 else "even"

    def text(self) -> str:
        """For example "0-0.5% -0.0123 (-0.0210 to -0.0042), worse"."""
        interval = self.decisive
        known = math.isfinite(interval.width)
        bounds = f"{interval.low:+.4f} to {interval.high:+.4f}" if known else "no interval"
        return f"{self.bin} {self.value:+.4f} ({bounds}), {self.verdict}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: six decimals, None for an unknown interval."""
        return {
            "bin": self.bin,
            "candidate": round(self.candidate, 6),
            "baseline": round(self.baseline, 6),
            "difference": round(self.value, 6),
            "over_samples": _pair(self.over_samples),
            "over_blocks": _pair(self.over_blocks),
            "verdict": self.verdict,
        }


def paired_differences(
    candidate: R2Sums, baseline: R2Sums, *, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[Difference, ...]:
    """One difference per bin that has pairs, then ``all``. The same arguments give the same intervals.

    Raises InputError 'not_paired' if the two were not scored at the same sites and samples.
    """
    if not candidate.pairs_with(baseline):
        raise InputError(
            "not_paired",
            "the two evaluations have different sites or samples",
            hint="evaluate both on the same targets, with the same panel and typed sites",
        )
    point = [_r2(_with_total(side.by_block.sum(axis=0))) for side in (candidate, baseline)]
    generator = np.random.default_rng(seed)
    over_samples = _intervals(candidate.by_sample, baseline.by_sample, resamples, generator)
    over_blocks = _intervals(candidate.by_block, baseline.by_block, resamples, generator)
    return tuple(
        Difference(name, float(above), float(below), samples, blocks)
        for name, above, below, samples, blocks in zip(
            (*MAF_BIN_NAMES, ALL), *point, over_samples, over_blocks, strict=True
        )
        if not math.isnan(above)
    )


def worse_bins(differences: Sequence[Difference]) -> list[Difference]:
    """The differences whose verdict is worse."""
    return [difference for difference in differences if difference.verdict == "worse"]


def _intervals(candidate: Floats, baseline: Floats, resamples: int, generator: np.random.Generator) -> list[Interval]:
    """Intervals by bin, then over all bins, from the R2 sums [units, bins, 6] of both.

    Units are sampled with replacement, the same for both.
    """
    units = len(candidate)
    above, below = _with_total(candidate), _with_total(baseline)  # [units, bins + 1, 6]
    resampled, step = [], max(_CELLS // units, 1)
    for start in range(0, resamples, step):
        counts = generator.multinomial(units, np.full(units, 1.0 / units), size=min(step, resamples - start))
        weights = counts.astype(np.float64)  # [resamples, units]
        resampled.append(_r2(np.tensordot(weights, above, axes=1)) - _r2(np.tensordot(weights, below, axes=1)))
    differences = np.concatenate(resampled)  # [resamples, bins + 1]
    with_pairs = (above[..., 0] > 0).sum(axis=0)
    # An interval is also unknown if the truth is constant in more than half of the resamples.
    known = (with_pairs >= MIN_UNITS) & (2 * np.isfinite(differences).sum(axis=0) >= resamples)
    found = iter(simultaneous_intervals(differences[:, known]))
    return [next(found) if one else Interval(math.nan, math.nan) for one in known.tolist()]


def simultaneous_intervals(resampled: Floats) -> list[Interval]:
    """One interval per column of the differences [resamples, bins], all between the same two quantiles.

    The quantiles are the least extreme ones that hold a fraction ``_LEVEL`` of the resamples in every column (Besag et
    al. 1995, Stat. Sci. 10:3, section 6.3). NaN values are ignored.
    """
    extreme = np.zeros(len(resampled))  # distance of a resample's most extreme bin from the median, in quantiles
    for values in resampled.T:
        ordered = np.sort(values[np.isfinite(values)])
        rank = sum(np.searchsorted(ordered, values, side) for side in ("left", "right")) / 2.0  # the mean rank of ties
        far = np.abs(rank / len(ordered) - 0.5)
        extreme = np.maximum(extreme, np.where(np.isfinite(values), far, 0.0))
    reach = np.quantile(extreme, _LEVEL) if resampled.size else 0.0
    bounds = np.nanquantile(resampled, [0.5 - reach, 0.5 + reach], axis=0) if resampled.size else np.empty((2, 0))
    return [Interval(float(low), float(high)) for low, high in bounds.T]


def _with_total(sums: Floats) -> Floats:
    """[..., bins + 1, 6]: ``sums`` [..., bins, 6] with the total over bins as the last."""
    return np.concatenate([sums, sums.sum(axis=-2, keepdims=True)], axis=-2)


def _r2(sums: Floats) -> Floats:
    """r2 [...] from ``sums`` [..., 6]: 0 if the dosage is constant, NaN if the truth is or without pairs."""
    n, t, d, tt, dd, td = np.moveaxis(sums, -1, 0)
    n = np.where(n > 0, n, np.nan)
    # As in accuracy.py: a variance below the rounding of the two sums cannot be told from zero.
    vt, vd = tt / n - (t / n) ** 2, dd / n - (d / n) ** 2
    vt = np.where(vt > np.maximum(1e-18, 1e-13 * tt / n), vt, np.nan)
    varies = vd > np.maximum(1e-18, 1e-13 * dd / n)
    covariance = td / n - t * d / n**2
    r2 = np.where(varies, covariance**2 / (vt * np.where(varies, vd, 1.0)), 0.0)
    return np.asarray(np.where(np.isnan(vt), np.nan, r2))


def _pair(interval: Interval) -> list[float] | None:
    return [round(interval.low, 6), round(interval.high, 6)] if math.isfinite(interval.width) else None
