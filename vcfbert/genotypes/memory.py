"""The memory: the haplotypes that retrieval searches, with the allele frequencies that they alone give."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vcfbert.genotypes.panel import Panel


@dataclass(frozen=True)
class Memory:
    """A subset of a panel's haplotypes. While training that is the training split, in a bundle the whole panel.

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

    def alleles(self, sites: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Alleles uint8 [n, n_sites chosen]."""
        return self.panel.alleles(sites, self.haplotypes)

    def rows(self, haplotypes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Rows of the given panel haplotypes; -1 for those that are not in the memory."""
        place = np.searchsorted(self.haplotypes, haplotypes).clip(max=len(self) - 1)
        return np.where(self.haplotypes[place] == haplotypes, place, -1)
