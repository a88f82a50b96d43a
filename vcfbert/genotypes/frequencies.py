"""Compares the allele frequencies of a target with the panel's.

Large differences point to flipped alleles, a wrong genome build, or a panel of another population.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vcfbert.genotypes.panel import Panel

# A site differs if it reaches both limits. Chi-squared compares allele counts, with one degree of freedom: 30 is
# p = 4e-8. The Michigan server's limit is 300, which a hundred samples hardly reach.
_MIN_DIFFERENCE: Final = 0.2
_MIN_CHI_SQUARED: Final = 30.0
# Width and height, in frequency, of a cell of the grid. The sites of a cell are one point of the figure.
_CELL: Final = 0.02
# Maximum number of sites listed, those that differ most.
_MAX_LISTED: Final = 100
# The target mirrors the panel if the correlation of frequencies is at most this, and this many standard errors of an
# uncorrelated target below 0.
_MIRRORED_CORRELATION: Final = -0.5
_MIRRORED_ERRORS: Final = 4.0
# A smaller variance of frequencies is rounding error.
_MIN_VARIANCE: Final = 1e-12


@dataclass(frozen=True)
class SiteFrequency:
    """A site of the panel with its ALT frequency in the panel and in the target."""

    chrom: str
    pos: int
    ref: str
    alt: str
    panel: float
    target: float

    @property
    def difference(self) -> float:
        return abs(self.target - self.panel)


@dataclass(frozen=True)
class FrequencyCheck:
    """Allele frequencies at the used sites that have a known call."""

    n_sites: int
    # Sums over sites: of the panel's frequency, the target's, the square of each, and their product.
    sums: tuple[float, float, float, float, float]
    n_different: int  # sites that differ clearly
    n_mirrored: int  # of these, sites that would differ less with REF and ALT exchanged
    different: tuple[SiteFrequency, ...]  # the sites that differ most
    # For each occupied cell of a grid: mean frequency in the panel and in the target, and number of sites.
    cells: tuple[tuple[float, float, int], ...]

    @classmethod
    def of_all(cls, parts: Sequence[FrequencyCheck]) -> FrequencyCheck:
        """The check of a target against several panels, from the check against each."""
        listed = sorted((site for part in parts for site in part.different), key=lambda site: -site.difference)
        rows = [cell for part in parts for cell in part.cells]
        theirs, ours, count = np.array(rows, dtype=np.float64).reshape(-1, 3).T
        first, second, first_square, second_square, product = map(sum, zip(*(part.sums for part in parts), strict=True))
        return cls(
            n_sites=sum(part.n_sites for part in parts),
            sums=(first, second, first_square, second_square, product),
            n_different=sum(part.n_different for part in parts),
            n_mirrored=sum(part.n_mirrored for part in parts),
            different=tuple(listed[:_MAX_LISTED]),
            cells=_cells(theirs, ours, count.astype(np.int64)),
        )

    @property
    def correlation(self) -> float | None:
        """Correlation of the two frequencies over sites; None where either does not vary."""
        if self.n_sites < 2:
            return None
        first, second, first_square, second_square, product = (value / self.n_sites for value in self.sums)
        variances = first_square - first**2, second_square - second**2
        if min(variances) < _MIN_VARIANCE:
            return None
        return round((product - first * second) / math.sqrt(variances[0] * variances[1]), 4)

    @property
    def mirrored(self) -> bool:
        """Whether frequencies fall where the panel's rise: REF and ALT are probably exchanged at all sites."""
        r = self.correlation
        return r is not None and r <= _MIRRORED_CORRELATION and r * math.sqrt(self.n_sites) <= -_MIRRORED_ERRORS

    def as_dict(self) -> dict[str, Any]:
        """The check as JSON values."""
        return {
            "n_sites": self.n_sites,
            "correlation": self.correlation,
            "n_different": self.n_different,
            "n_mirrored": self.n_mirrored,
            "different": [asdict(site) for site in self.different],
            "cells": [list(cell) for cell in self.cells],
        }


def compare_frequencies(alleles: npt.NDArray[np.int8], site: npt.NDArray[np.int64], panel: Panel) -> FrequencyCheck:
    """Compares target alleles [m, n_samples, 2] with the panel at sites ``site`` [m].

    Alleles are in the panel's orientation and negative where unknown.
    """
    n_alt, n_known = (alleles == 1).sum(axis=(1, 2)), (alleles >= 0).sum(axis=(1, 2))
    site, n_alt, n_known = site[n_known > 0], n_alt[n_known > 0], n_known[n_known > 0]
    theirs, ours = panel.af[site], n_alt / n_known
    different = np.abs(ours - theirs) >= _MIN_DIFFERENCE
    different &= _chi_squared(n_alt, n_known, panel.allele_count[site], panel.n_haplotypes) >= _MIN_CHI_SQUARED
    mirrored = different & (np.abs(1.0 - ours - theirs) < np.abs(ours - theirs))
    worst = np.flatnonzero(different)
    worst = worst[np.argsort(-np.abs(ours - theirs)[worst], kind="stable")][:_MAX_LISTED]
    chrom, sites = panel.region.chrom, panel.sites.take(site[worst])
    listed = zip(sites.pos.tolist(), sites.ref, sites.alt, theirs[worst], ours[worst], strict=True)
    return FrequencyCheck(
        n_sites=len(site),
        sums=_sums(theirs, ours),
        n_different=int(different.sum()),
        n_mirrored=int(mirrored.sum()),
        different=tuple(
            SiteFrequency(chrom, pos, ref, alt, round(p, 4), round(t, 4)) for pos, ref, alt, p, t in listed
        ),
        cells=_cells(theirs, ours, np.ones(len(site), dtype=np.int64)),
    )


def _chi_squared(
    n_alt: npt.NDArray[np.int64], n_known: npt.NDArray[np.int64], panel_alt: npt.NDArray[np.int64], n_panel: int
) -> npt.NDArray[np.float64]:
    """Chi-squared [m] of the 2 x 2 table of ALT and REF alleles in target and panel; 0 where neither varies."""
    pooled = (n_alt + panel_alt) / (n_known + n_panel)
    variance = pooled * (1.0 - pooled) * (1.0 / n_known + 1.0 / n_panel)
    squared = (n_alt / n_known - panel_alt / n_panel) ** 2
    return np.where(variance > 0.0, squared / np.maximum(variance, 1e-300), 0.0)


def _sums(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> tuple[float, float, float, float, float]:
    return float(a.sum()), float(b.sum()), float(a @ a), float(b @ b), float(a @ b)


def _cells(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], n: npt.NDArray[np.int64]
) -> tuple[tuple[float, float, int], ...]:
    """Mean of ``a``, mean of ``b`` and number of points of each occupied grid cell; point i counts ``n[i]`` times."""
    rows = np.stack([np.round(a / _CELL), np.round(b / _CELL)], axis=1).astype(np.int64)
    _, cell = np.unique(rows, axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    count = np.bincount(cell, weights=n).astype(np.int64)
    means = (np.bincount(cell, weights=x * n) / np.maximum(count, 1) for x in (a, b))
    return tuple(zip(*(mean.round(3).tolist() for mean in means), count.tolist(), strict=True))
