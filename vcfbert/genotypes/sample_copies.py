"""Finds samples that are copies of each other: lines of one origin, clones, twins, and samples sequenced twice.

A copy of a validation sample in the reference subset would make imputation look easier than it is for a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from vcfbert.genotypes.panel import haplotype_pairs

# Two samples are copies if they agree at this fraction of the sites at which either has the minor allele. Copies with
# 1% of errors on a chip keep .97. Over a short region a few unrelated samples are as alike: of 89 and 230 validation
# samples of 892 and 2,303 humans, two and one have such another (over 330 and 140 kb). Holding it out costs nothing.
MIN_AGREEMENT: Final = 0.95
# Over fewer such sites, unrelated samples agree by chance.
MIN_SITES: Final = 40
# Sites compared are at most twice as many.
_SITES: Final = 1024
_MIN_COUNT: Final = 2  # of the minor allele: an allele seen once is often an error
_ROWS: Final = 512  # samples compared with all others at once


class CopyFinder:
    """Compares samples at evenly spaced sites of a panel that is given block by block.

    The sites do not depend on the blocks. ``haploid``: as in ``Panel``.
    """

    def __init__(self, n_samples: int, haploid: Sequence[int]) -> None:
        self._pairs = haplotype_pairs(n_samples, haploid)
        self._n_haplotypes = 2 * n_samples - len(haploid)
        self._rows: list[npt.NDArray[np.uint8]] = []  # packed alleles of a site, the minor allele as 1
        self._seen, self._stride = 0, 1

    def add(self, packed: npt.NDArray[np.uint8], allele_count: npt.NDArray[np.int64]) -> None:
        """Adds the next sites; ``packed`` as in ``SiteBlocks.of``, ``allele_count`` as in ``Panel``."""
        common = np.flatnonzero(np.minimum(allele_count, self._n_haplotypes - allele_count) >= _MIN_COUNT)
        for site in common[(self._seen + np.arange(len(common))) % self._stride == 0].tolist():
            flipped = 2 * allele_count[site] > self._n_haplotypes
            self._rows.append(~packed[site] if flipped else packed[site].copy())
        self._seen += len(common)
        while len(self._rows) > 2 * _SITES:
            self._rows, self._stride = self._rows[::2], 2 * self._stride

    def copies_of(self, samples: Sequence[int]) -> list[frozenset[int]]:
        """For each of ``samples``: itself and its copies."""
        if len(self._rows) < MIN_SITES:
            return [frozenset([sample]) for sample in samples]
        minor = np.unpackbits(np.stack(self._rows), axis=1, count=self._n_haplotypes).T  # [haplotypes, sites]
        count = minor[self._pairs[:, 0]] + minor[self._pairs[:, 1]]  # [n, sites], of the minor allele
        one, two = ((count == number).astype(np.float32) for number in (1, 2))
        carried = one + two
        found = []
        for start in range(0, len(samples), _ROWS):
            own = np.asarray(samples[start : start + _ROWS])
            equal = one[own] @ one.T + two[own] @ two.T
            either = carried[own].sum(axis=1)[:, None] + carried.sum(axis=1) - carried[own] @ carried.T
            alike = (equal >= MIN_AGREEMENT * either) & (either >= MIN_SITES)
            found += [
                frozenset([sample, *np.flatnonzero(row).tolist()])
                for sample, row in zip(own.tolist(), alike, strict=True)
            ]
        return found


def with_copies(chosen: Sequence[int], copies: Sequence[frozenset[int]], n_samples: int) -> tuple[int, ...]:
    """Validation samples, ascending: those of ``chosen`` with all of their ``copies``, up to half of ``n_samples``.

    A sample with so many copies that they would exceed half is not held out. Where that holds for every sample,
    ``chosen`` remains.
    """
    held: frozenset[int] = frozenset()
    for group in copies:
        if len(held | group) <= n_samples // 2:
            held |= group
    return tuple(sorted(held or chosen))
