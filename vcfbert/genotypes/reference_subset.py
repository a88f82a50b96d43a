"""The memory: the haplotypes that retrieval searches, with the allele frequencies that they alone give."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vcfbert.genotypes.panel import Panel


@dataclass(frozen=True)
class ReferenceSubset:
    """Some of a panel's samples, with all of their haplotypes: while training the training split, in a bundle all.

    ``haplotypes`` int64 [n]: their indices in the panel, ascending; a *row* of the memory is a place in this array.
    """

    panel: Panel
    haplotypes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.haplotypes)

    @cached_property
    def af(self) -> npt.NDArray[np.float64]:
        """ALT allele frequency among the memory's haplotypes, [n_sites]."""
        if len(self) == self.panel.n_haplotypes:
            return self.panel.af
        keep = np.zeros(self.panel.packed.shape[1] * 8, dtype=np.uint8)
        keep[self.haplotypes] = 1
        counts = np.bitwise_count(self.panel.packed & np.packbits(keep)).sum(axis=1)
        return np.asarray(counts / len(self))

    @cached_property
    def pairs(self) -> npt.NDArray[np.int64]:
        """[n_samples of the memory, 2]: the rows of each sample, as in ``Panel.pairs``."""
        rows = self.rows(self.panel.pairs)
        return rows[rows[:, 0] >= 0]

    def rows_of_sample(self, haplotypes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """[n, 2]: both rows of the sample that each of the panel's ``haplotypes`` [n] belongs to; -1 for those that
        are not in the memory."""
        sample = np.searchsorted(self.panel.pairs[:, 1], haplotypes)
        return self.rows(self.panel.pairs[sample])

    def alleles(self, sites: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Alleles uint8 [n, n_sites chosen]."""
        return self.panel.alleles(sites, self.haplotypes)

    def rows(self, haplotypes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Rows of the given panel haplotypes; -1 for those that are not in the memory."""
        place = np.searchsorted(self.haplotypes, haplotypes).clip(max=len(self) - 1)
        return np.where(self.haplotypes[place] == haplotypes, place, -1)
