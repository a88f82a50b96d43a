"""Accumulators of accuracy figures: ``update`` adds a block, ``merge`` joins the counts of two workers.

Dosage figures are grouped by the panel's minor-allele frequency (MAF). Their alleles are oriented to the panel's minor
allele. Sites that do not vary in the panel are excluded.
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
# A dosage with a standard deviation below this, in alleles, counts as constant and has no correlation.
_CONSTANT = 1e-9


def maf_bin(af: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Index into MAF_BINS of each panel ALT frequency [l]; -1 for sites that do not vary in the panel."""
    frequency = np.asarray(af, dtype=np.float64)
    maf = np.minimum(frequency, 1.0 - frequency)
    edges = [low for low, _ in MAF_BINS]
    return np.where(maf > 0.0, np.digitize(maf, edges) - 1, -1)


class F1Counter:
    """F1 of the ALT allele over all sites, and over rare sites (panel MAF < RARE_MAF)."""

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
        """Adds true alleles ``truth`` [..., l] (0 = REF, 1 = ALT) with their predictions.

        ``probability`` [..., l]: of ALT, which is called from 0.5 upwards; calls 0 and 1 work too. ``maf`` [l]: in
        the panel. ``where`` [..., l] or [l]: the alleles to count; None = all.
        """
        actual = np.atleast_2d(np.asarray(truth) == 1)
        called = np.atleast_2d(np.asarray(probability) >= 0.5)
        counted = np.ones((), dtype=bool) if where is None else np.asarray(where)
        axes = tuple(range(actual.ndim - 1))
        cells = (actual & called, called & ~actual, actual & ~called)
        by_site = np.stack([(cell & counted).sum(axis=axes) for cell in cells], axis=1)  # [l, 3]
        rare = np.asarray(maf) < RARE_MAF
        self._counts += np.stack([by_site[~rare].sum(axis=0), by_site[rare].sum(axis=0)])

    def merge(self, other: F1Counter) -> None:
        """Adds the counts of ``other``."""
        self._counts += other._counts

    @property
    def f1(self) -> float:
        """F1 over all sites; 0 if no allele is ALT, true or called."""
        return _f1(self._counts.sum(axis=0))

    @property
    def rare_f1(self) -> float:
        """F1 over rare sites; 0 likewise."""
        return _f1(self._counts[1])

    def values(self) -> dict[str, float]:
        """``f1`` and ``rare_f1`` for a report."""
        return {"f1": self.f1, "rare_f1": self.rare_f1}


class DosageR2:
    """Aggregate dosage r2 by MAF bin: the squared Pearson correlation over all (site, sample) pairs of the bin."""

    def __init__(self) -> None:
        self.sums = np.zeros((_N_BINS, 6))  # n, t, d, tt, dd, td

    def update(self, truth: npt.ArrayLike, dosage: npt.ArrayLike, af: npt.ArrayLike) -> None:
        """Adds sites of panel ALT frequency ``af`` [l]: true ALT counts ``truth`` and ``dosage`` (0..2), both [l, n].

        A negative or NaN count is missing, and its pair is excluded. A site's samples may come in several blocks.
        """
        bins, t, d, valid = oriented(truth, dosage, af)
        self.sums += _by_bin(bins, site_sums(t, d, valid))

    def merge(self, other: DosageR2) -> None:
        """Adds the sums of ``other``."""
        self.sums += other.sums

    def values(self) -> dict[str, float]:
        """r2 of each bin that has pairs, then of ``all``; 0 if truth or dosage is constant."""
        rows = dict(zip((*MAF_BIN_NAMES, ALL), _with_total(self.sums), strict=True))
        return {name: _r2(sums) for name, sums in rows.items() if sums[0] > 0}


@dataclass(frozen=True)
class CalibrationPoint:
    """The pairs whose predicted minor-allele probability (dosage / 2) falls in one tenth of 0..1.

    ``predicted`` is their mean probability, ``observed`` their mean true frequency, ``pairs`` their number.
    """

    predicted: float
    observed: float
    pairs: int


@dataclass(frozen=True)
class BinScores:
    """Figures of one MAF bin; NaN where undefined.

    ``polymorphic_sites`` counts the sites that vary in the truth. ``mean_site_r2`` and ``iqs`` are means over them.
    ``mean_estimated_r2`` is a mean over those with an estimated r2 in the imputed file. ``estimate_correlation`` is
    Pearson's correlation of estimated and true r2 over the same sites.
    """

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
        """Plain values for JSON: six decimals, None for NaN."""
        return {key: _plain(value) for key, value in dataclasses.asdict(self).items()}


class SiteScores:
    """All dosage figures by MAF bin. Unlike for DosageR2, an update must have all samples of its sites.

    The figures of a bin are: aggregate r2 and mean r2 per site; non-reference concordance, over pairs whose truth or
    rounded dosage has the minor allele; F1 of the minor allele; the imputation quality score,
    (Po - Pc) / (1 - Pc) from genotype probabilities (Lin et al. 2010, PLoS ONE 5:e9697); the calibration of
    dosage / 2; and the estimated r2 of the imputed file beside the true one.
    """

    def __init__(self) -> None:
        self._r2_sums = np.zeros((_N_BINS, 6))
        # sites, polymorphic, site r2, IQS, concordant, non-reference, true positive, false positive, false negative
        self._sums = np.zeros((_N_BINS, 9))
        self._calibration = np.zeros((_N_BINS, CALIBRATION_BINS, 3))  # pairs, predicted, observed
        self._estimates = np.zeros((_N_BINS, 6))  # sums as for r2, of true and estimated r2 by site

    def update(
        self,
        truth: npt.ArrayLike,
        dosage: npt.ArrayLike,
        af: npt.ArrayLike,
        genotype_probability: npt.ArrayLike | None = None,
        estimated_r2: npt.ArrayLike | None = None,
    ) -> None:
        """Adds sites of panel ALT frequency ``af`` [l].

        ``truth`` [l, n]: true ALT counts; a negative or NaN count is missing, and its pair is excluded.
        ``dosage`` [l, n]: 0..2. ``genotype_probability`` [l, n, 3]: where it is None or NaN, the two genotypes
        nearest to the dosage share the probability. ``estimated_r2`` [l]: of the imputed file, NaN without one.
        """
        bins, t, d, valid = oriented(truth, dosage, af)
        columns = [np.ones(len(t)), *_site_r2(t, d, valid)]
        varies = columns[1] > 0
        keep = maf_bin(af) >= 0
        if estimated_r2 is not None:
            estimate = np.asarray(estimated_r2, dtype=np.float64)[keep]
            known = varies & np.isfinite(estimate)
            pairs = (columns[2][known, None], estimate[known, None])
            self._estimates += _by_bin(bins[known], site_sums(*pairs, np.ones((int(known.sum()), 1), dtype=bool)))
        flipped = np.asarray(af)[keep] > 0.5
        probability = genotype_probabilities(d)
        if genotype_probability is not None:
            given = np.asarray(genotype_probability, dtype=np.float64)[keep]
            given = np.where(flipped[:, None, None], given[..., ::-1], given)
            probability = np.where(np.isnan(given).any(axis=2, keepdims=True), probability, given)
        columns.append(np.where(varies, _iqs(t, probability, valid), 0.0))
        columns.extend(_call_counts(t, d, valid))
        self._sums += _by_bin(bins, np.stack(columns, axis=1))
        self._r2_sums += _by_bin(bins, site_sums(t, d, valid))
        self._calibration += _calibration(bins, t, d, valid)

    def merge(self, other: SiteScores) -> None:
        """Adds the sums of ``other``, which has other sites."""
        self._sums += other._sums
        self._r2_sums += other._r2_sums
        self._calibration += other._calibration
        self._estimates += other._estimates

    @property
    def sites(self) -> int:
        """Number of added sites that vary in the panel."""
        return int(self._sums[:, 0].sum())

    def rows(self) -> list[BinScores]:
        """One row per MAF bin that has sites, then ``all``; empty if no site was added."""
        parts = zip(
            (*MAF_BIN_NAMES, ALL),
            _with_total(self._sums),
            _with_total(self._r2_sums),
            _with_total(self._calibration),
            _with_total(self._estimates),
            strict=True,
        )
        return [_row(name, sums, *rest) for name, sums, *rest in parts if sums[0] > 0]


def genotype_probabilities(dosage: npt.ArrayLike) -> Floats:
    """Probabilities [..., 3] of 0, 1 and 2 ALT alleles for a dosage [...].

    The two genotypes nearest to the dosage share the probability: no other choice of that mean has a lower variance.
    """
    d = np.asarray(dosage, dtype=np.float64)[..., None]
    return np.asarray(np.clip(1.0 - np.abs(d - np.arange(3)), 0.0, 1.0))


def _row(name: str, sums: Floats, r2_sums: Floats, calibration: Floats, estimates: Floats) -> BinScores:
    sites, polymorphic, site_r2, iqs, concordant, nonref = sums[:6]
    pairs = calibration[:, 0]
    points = calibration[pairs > 0]
    error = np.abs(calibration[:, 1] - calibration[:, 2]).sum() / pairs.sum() if pairs.any() else math.nan
    return BinScores(
        bin=name,
        sites=int(sites),
        polymorphic_sites=int(polymorphic),
        aggregate_r2=_r2(r2_sums),
        mean_site_r2=_ratio(site_r2, polymorphic),
        nonref_concordance=_ratio(concordant, nonref),
        minor_f1=_f1(sums[6:9]),
        iqs=_ratio(iqs, polymorphic),
        calibration_error=float(error),
        mean_estimated_r2=_ratio(estimates[2], estimates[0]),
        estimate_correlation=_correlation(estimates),
        calibration=tuple(CalibrationPoint(p / n, o / n, int(n)) for n, p, o in points.tolist()),
    )


def oriented(
    truth: npt.ArrayLike, dosage: npt.ArrayLike, af: npt.ArrayLike
) -> tuple[npt.NDArray[np.intp], Floats, Floats, npt.NDArray[np.bool_]]:
    """Orients the sites that vary in the panel to its minor allele.

    Returns bins [l], minor-allele counts and dosages [l, n] (0 where missing), and where the truth is known [l, n].
    """
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


def site_sums(t: Floats, d: Floats, valid: npt.NDArray[np.bool_]) -> Floats:
    """[l, 6]: number of valid samples and the sums of t, d, t^2, d^2 and t d over them, by site."""
    n = valid.sum(axis=1, dtype=np.float64)
    return np.stack([n, t.sum(1), d.sum(1), (t * t).sum(1), (d * d).sum(1), (t * d).sum(1)], axis=1)


def _r2(sums: Floats) -> float:
    """Squared correlation from sums; 0 if either variable is constant."""
    correlation = _correlation(sums)
    return 0.0 if math.isnan(correlation) else correlation**2


def _correlation(sums: Floats) -> float:
    """Pearson's correlation from sums; NaN if either variable is constant."""
    n, t, d, tt, dd, td = sums.tolist()
    if n < 2:
        return math.nan
    variance_t, variance_d = tt / n - (t / n) ** 2, dd / n - (d / n) ** 2
    # A variance below the rounding of the two sums cannot be told from zero.
    if variance_t <= max(_CONSTANT**2, 1e-13 * tt / n) or variance_d <= max(_CONSTANT**2, 1e-13 * dd / n):
        return math.nan
    return float((td / n - t * d / n**2) / math.sqrt(variance_t * variance_d))


def _site_r2(t: Floats, d: Floats, valid: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """[l] each: whether the truth varies (1 or 0), and r2 of the site (0 if truth or dosage is constant)."""
    n = np.maximum(valid.sum(axis=1, keepdims=True), 1)
    # Centred first: at a single site raw sums are too coarse to show that a dosage is constant.
    ct = np.where(valid, t - t.sum(axis=1, keepdims=True) / n, 0.0)
    cd = np.where(valid, d - d.sum(axis=1, keepdims=True) / n, 0.0)
    vt, vd = (ct * ct).sum(1) / n[:, 0], (cd * cd).sum(1) / n[:, 0]
    varies = vt > _CONSTANT**2
    defined = varies & (vd > _CONSTANT**2)
    covariance = (ct * cd).sum(1) / n[:, 0]
    return varies.astype(np.float64), np.where(defined, covariance**2 / np.where(defined, vt * vd, 1.0), 0.0)


def _iqs(t: Floats, probability: Floats, valid: npt.NDArray[np.bool_]) -> Floats:
    """Imputation quality score [l] of each site; 0 where agreement by chance is 1."""
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
    """[l] each: concordant and all pairs with the minor allele in truth or call; true positives, false ones, misses."""
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


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else math.nan


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
