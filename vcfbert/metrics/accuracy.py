"""Accuracy figures as streaming accumulators: ``update`` block by block, ``merge`` across workers, read at the end.

Dosage figures are by bin of the panel's minor-allele frequency (MAF). In them alleles are oriented to the panel's
minor allele, and sites where the panel does not vary are left out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vcfbert.constants import MAF_BIN_NAMES, MAF_BINS, RARE_MAF

Floats = npt.NDArray[np.float64]

ALL = "all"  # name of the row over all MAF bins
CALIBRATION_BINS = 10
_N_BINS = len(MAF_BINS)
# Below this standard deviation (alleles) a dosage is constant and has no correlation with anything.
_CONSTANT = 1e-9


def maf_bin(af: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Index into MAF_BINS of each panel ALT frequency [l]; -1 where the panel does not vary."""
    frequency = np.asarray(af, dtype=np.float64)
    maf = np.minimum(frequency, 1.0 - frequency)
    edges = [low for low, _ in MAF_BINS]
    return np.where(maf > 0.0, np.digitize(maf, edges) - 1, -1)


class F1Counter:
    """F1 of the ALT allele over haplotype sites, and over rare sites (panel MAF < RARE_MAF) alone."""

    def __init__(self) -> None:
        # [common, rare] x [true positive, false positive, false negative]
        self._counts = np.zeros((2, 3), dtype=np.int64)

    def update(
        self,
        truth: npt.NDArray[np.uint8],
        probability: npt.ArrayLike,
        maf: npt.ArrayLike,
        where: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Adds alleles ``truth`` [..., l] (0 = REF, 1 = ALT) predicted as ``probability`` [..., l] of ALT, which is
        called from 0.5 (0/1 calls do as well), at sites of panel ``maf`` [l]. ``where`` ([..., l] or [l]): counted."""
        actual = np.atleast_2d(np.asarray(truth) == 1)
        called = np.atleast_2d(np.asarray(probability) >= 0.5)
        counted = np.ones((), dtype=bool) if where is None else np.asarray(where)
        axes = tuple(range(actual.ndim - 1))
        cells = (actual & called, called & ~actual, actual & ~called)
        by_site = np.stack([(cell & counted).sum(axis=axes) for cell in cells], axis=1)  # [l, 3]
        rare = np.asarray(maf) < RARE_MAF
        self._counts += np.stack([by_site[~rare].sum(axis=0), by_site[rare].sum(axis=0)])

    def merge(self, other: F1Counter) -> None:
        self._counts += other._counts

    @property
    def f1(self) -> float:
        """F1 over all sites; 0 where there is no ALT allele, true or called."""
        return _f1(self._counts.sum(axis=0))

    @property
    def rare_f1(self) -> float:
        return _f1(self._counts[1])

    def values(self) -> dict[str, float]:
        return {"f1": self.f1, "rare_f1": self.rare_f1}


class DosageR2:
    """Aggregate dosage r2 by MAF bin: squared Pearson correlation over every (site, sample) pair of the bin."""

    def __init__(self) -> None:
        self._sums = np.zeros((_N_BINS, 6))  # n, t, d, tt, dd, td

    def update(self, truth: npt.ArrayLike, dosage: npt.ArrayLike, af: npt.ArrayLike) -> None:
        """Adds true ALT counts ``truth`` [l, n] (negative or NaN = missing, left out) and ``dosage`` [l, n] (0..2)
        at sites of panel ALT frequency ``af`` [l]. A site's samples may come in several blocks."""
        bins, t, d, valid = oriented(truth, dosage, af)
        self._sums += _by_bin(bins, site_moments(t, d, valid))

    def merge(self, other: DosageR2) -> None:
        self._sums += other._sums

    def values(self) -> dict[str, float]:
        """r2 of each bin that has pairs, then of ``all``; 0 where truth or dosage is constant."""
        rows = dict(zip((*MAF_BIN_NAMES, ALL), _with_total(self._sums), strict=True))
        return {name: _r2(sums) for name, sums in rows.items() if sums[0] > 0}


@dataclass(frozen=True)
class CalibrationPoint:
    """Pairs whose predicted minor-allele probability (dosage / 2) falls in one tenth: means and their number."""

    predicted: float
    observed: float
    pairs: int


@dataclass(frozen=True)
class BinScores:
    """Figures of one MAF bin; NaN where undefined. ``polymorphic_sites``: sites whose truth varies, over which
    ``mean_site_r2`` and ``iqs`` are means. So is ``mean_estimated_r2``, of those that the imputed file tells its own
    estimate of; ``estimate_correlation`` is Pearson's, over them, of the estimate with the site's r2."""

    bin: str
    sites: int
    polymorphic_sites: int
    aggregate_r2: float
    mean_site_r2: float
    nonref_concordance: float
    minor_f1: float
    iqs: float
    calibration_error: float
    mean_estimated_r2: float
    estimate_correlation: float
    calibration: tuple[CalibrationPoint, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: six decimals, None where undefined."""
        return {key: _plain(value) for key, value in dataclasses.asdict(self).items()}


class SiteScores:
    """Every dosage figure by MAF bin. Unlike DosageR2, an update must bring all samples of its sites.

    Per bin: aggregate r2 and mean per-site r2 of the dosage; concordance of rounded dosages over pairs where truth
    or call carries the minor allele; F1 of the minor allele; the imputation quality score, (Po - Pc) / (1 - Pc)
    from genotype probabilities (Lin et al. 2010, PLoS ONE 5:e9697); the calibration of dosage / 2; and how the
    imputed file's own estimate of each site's r2 compares with that r2.
    """

    def __init__(self) -> None:
        self._moments = np.zeros((_N_BINS, 6))
        # sites, polymorphic, site r2, IQS, concordant, non-reference, true positive, false positive, false negative
        self._sums = np.zeros((_N_BINS, 9))
        self._calibration = np.zeros((_N_BINS, CALIBRATION_BINS, 3))  # pairs, predicted, observed
        self._estimates = np.zeros((_N_BINS, 6))  # as moments, of r2 and its estimate by site

    def update(
        self,
        truth: npt.ArrayLike,
        dosage: npt.ArrayLike,
        af: npt.ArrayLike,
        genotype_probability: npt.ArrayLike | None = None,
        estimated_r2: npt.ArrayLike | None = None,
    ) -> None:
        """Adds sites of panel ALT frequency ``af`` [l]: true ALT counts ``truth`` [l, n] (negative or NaN =
        missing, left out), ``dosage`` [l, n] (0..2) and ``genotype_probability`` [l, n, 3]; without it, and
        where it is NaN, the two genotypes next to the dosage share the probability. ``estimated_r2`` [l]: what the
        imputed file says of the sites, NaN where nothing."""
        bins, t, d, valid = oriented(truth, dosage, af)
        columns = [np.ones(len(t)), *_site_r2(t, d, valid)]
        varies = columns[1] > 0
        keep = maf_bin(af) >= 0
        if estimated_r2 is not None:
            estimate = np.asarray(estimated_r2, dtype=np.float64)[keep]
            told = varies & np.isfinite(estimate)
            pairs = (columns[2][told, None], estimate[told, None])
            self._estimates += _by_bin(bins[told], site_moments(*pairs, np.ones((int(told.sum()), 1), dtype=bool)))
        flipped = np.asarray(af)[keep] > 0.5
        probability = genotype_probabilities(d)
        if genotype_probability is not None:
            given = np.asarray(genotype_probability, dtype=np.float64)[keep]
            given = np.where(flipped[:, None, None], given[..., ::-1], given)
            probability = np.where(np.isnan(given).any(axis=2, keepdims=True), probability, given)
        columns.append(np.where(varies, _iqs(t, probability, valid), 0.0))
        columns.extend(_call_counts(t, d, valid))
        self._sums += _by_bin(bins, np.stack(columns, axis=1))
        self._moments += _by_bin(bins, site_moments(t, d, valid))
        self._calibration += _calibration(bins, t, d, valid)

    def merge(self, other: SiteScores) -> None:
        self._sums += other._sums
        self._moments += other._moments
        self._calibration += other._calibration
        self._estimates += other._estimates

    @property
    def sites(self) -> int:
        return int(self._sums[:, 0].sum())

    def rows(self) -> list[BinScores]:
        """One row for each MAF bin that has sites, then ``all``; empty when nothing was added."""
        parts = zip(
            (*MAF_BIN_NAMES, ALL),
            _with_total(self._sums),
            _with_total(self._moments),
            _with_total(self._calibration),
            _with_total(self._estimates),
            strict=True,
        )
        return [_row(name, sums, *rest) for name, sums, *rest in parts if sums[0] > 0]


def genotype_probabilities(dosage: npt.ArrayLike) -> Floats:
    """Probabilities [..., 3] of 0, 1, 2 ALT alleles for a dosage [...] given alone: shared by the two genotypes
    next to it, the least spread that the dosage allows."""
    d = np.asarray(dosage, dtype=np.float64)[..., None]
    return np.asarray(np.clip(1.0 - np.abs(d - np.arange(3)), 0.0, 1.0))


def _row(name: str, sums: Floats, moments: Floats, calibration: Floats, estimates: Floats) -> BinScores:
    sites, polymorphic, site_r2, iqs, concordant, nonref = sums[:6]
    pairs = calibration[:, 0]
    points = calibration[pairs > 0]
    error = np.abs(calibration[:, 1] - calibration[:, 2]).sum() / pairs.sum() if pairs.any() else math.nan
    return BinScores(
        bin=name,
        sites=int(sites),
        polymorphic_sites=int(polymorphic),
        aggregate_r2=_r2(moments),
        mean_site_r2=_share(site_r2, polymorphic),
        nonref_concordance=_share(concordant, nonref),
        minor_f1=_f1(sums[6:9]),
        iqs=_share(iqs, polymorphic),
        calibration_error=float(error),
        mean_estimated_r2=_share(estimates[2], estimates[0]),
        estimate_correlation=_correlation(estimates),
        calibration=tuple(CalibrationPoint(p / n, o / n, int(n)) for n, p, o in points.tolist()),
    )


def oriented(
    truth: npt.ArrayLike, dosage: npt.ArrayLike, af: npt.ArrayLike
) -> tuple[npt.NDArray[np.intp], Floats, Floats, npt.NDArray[np.bool_]]:
    """Bins [l], minor-allele counts and dosages [l, n] (0 where missing) and validity of the sites that vary."""
    bins = maf_bin(af)
    keep = bins >= 0
    t = np.asarray(truth, dtype=np.float64)[keep]
    d = np.asarray(dosage, dtype=np.float64)[keep]
    valid = t >= 0  # False for NaN too
    flipped = (np.asarray(af, dtype=np.float64)[keep] > 0.5)[:, None]
    t = np.where(valid, np.where(flipped, 2.0 - t, t), 0.0)
    return bins[keep], t, np.where(valid, np.where(flipped, 2.0 - d, d), 0.0), valid


def _by_bin(bins: npt.NDArray[np.intp], values: Floats) -> Floats:
    """Sums over sites of ``values`` [l, c], by bin: [n_bins, c]."""
    return np.eye(_N_BINS)[bins].T @ values


def _with_total(by_bin: Floats) -> Floats:
    return np.concatenate([by_bin, by_bin.sum(axis=0, keepdims=True)])


def site_moments(t: Floats, d: Floats, valid: npt.NDArray[np.bool_]) -> Floats:
    """[l, 6]: n and the sums of t, d, t^2, d^2, t d over the samples of each site."""
    n = valid.sum(axis=1, dtype=np.float64)
    return np.stack([n, t.sum(1), d.sum(1), (t * t).sum(1), (d * d).sum(1), (t * d).sum(1)], axis=1)


def _r2(sums: Floats) -> float:
    """0 where either is constant."""
    correlation = _correlation(sums)
    return 0.0 if math.isnan(correlation) else correlation**2


def _correlation(sums: Floats) -> float:
    """Pearson's, from moments; NaN where either is constant."""
    n, t, d, tt, dd, td = sums.tolist()
    if n < 2:
        return math.nan
    variance_t, variance_d = tt / n - (t / n) ** 2, dd / n - (d / n) ** 2
    # The difference of two sums cannot tell a variance below their rounding from zero.
    if variance_t <= max(_CONSTANT**2, 1e-13 * tt / n) or variance_d <= max(_CONSTANT**2, 1e-13 * dd / n):
        return math.nan
    return float((td / n - t * d / n**2) / math.sqrt(variance_t * variance_d))


def _site_r2(t: Floats, d: Floats, valid: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """[l] each: 1 where the truth varies, and there r2 of that site (0 if its dosage is constant)."""
    n = np.maximum(valid.sum(axis=1, keepdims=True), 1)
    # Centred first: at one site the difference of raw sums is too coarse to tell a constant dosage.
    ct = np.where(valid, t - t.sum(axis=1, keepdims=True) / n, 0.0)
    cd = np.where(valid, d - d.sum(axis=1, keepdims=True) / n, 0.0)
    vt, vd = (ct * ct).sum(1) / n[:, 0], (cd * cd).sum(1) / n[:, 0]
    varies = vt > _CONSTANT**2
    defined = varies & (vd > _CONSTANT**2)
    covariance = (ct * cd).sum(1) / n[:, 0]
    return varies.astype(np.float64), np.where(defined, covariance**2 / np.where(defined, vt * vd, 1.0), 0.0)


def _iqs(t: Floats, probability: Floats, valid: npt.NDArray[np.bool_]) -> Floats:
    """Imputation quality score [l] of each site; 0 where chance alone agrees always."""
    n = np.maximum(valid.sum(axis=1), 1).astype(np.float64)
    agreement, chance = np.zeros(len(t)), np.zeros(len(t))
    for genotype in range(3):
        has = (t == genotype) & valid
        p = np.where(valid, probability[..., genotype], 0.0)
        agreement += (has * p).sum(axis=1) / n
        chance += has.sum(axis=1) * p.sum(axis=1) / n**2
    room = 1.0 - chance
    return np.where(room > 1e-12, (agreement - chance) / np.where(room > 1e-12, room, 1.0), 0.0)


def _call_counts(t: Floats, d: Floats, valid: npt.NDArray[np.bool_]) -> list[Floats]:
    """[l] each: concordant and all pairs with the minor allele in truth or call; true/false positives, negatives."""
    call = np.clip(np.round(d), 0.0, 2.0)
    carries = ((t > 0) | (call > 0)) & valid
    counts = (
        (t == call) & carries,
        carries,
        np.minimum(t, call),
        np.maximum(call - t, 0.0),
        np.maximum(t - call, 0.0),
    )
    return [np.asarray(count.sum(axis=1), dtype=np.float64) for count in counts]


def _calibration(bins: npt.NDArray[np.intp], t: Floats, d: Floats, valid: npt.NDArray[np.bool_]) -> Floats:
    """[n_bins, CALIBRATION_BINS, 3]: pairs, sum of dosage / 2, sum of truth / 2."""
    predicted, observed = d[valid] / 2.0, t[valid] / 2.0
    tenth = np.clip((predicted * CALIBRATION_BINS).astype(np.intp), 0, CALIBRATION_BINS - 1)
    cell = np.broadcast_to(bins[:, None], valid.shape)[valid] * CALIBRATION_BINS + tenth
    size = _N_BINS * CALIBRATION_BINS
    sums = [np.bincount(cell, weights=w, minlength=size) for w in (np.ones_like(predicted), predicted, observed)]
    return np.stack(sums, axis=1).astype(np.float64).reshape(_N_BINS, CALIBRATION_BINS, 3)


def _f1(counts: npt.NDArray[Any]) -> float:
    true_positive, false_positive, false_negative = counts.tolist()
    return float(2 * true_positive / max(2 * true_positive + false_positive + false_negative, 1))


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else math.nan


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
