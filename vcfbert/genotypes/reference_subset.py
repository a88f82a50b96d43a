"""The reference subset: the panel haplotypes that retrieval searches, with their own allele frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vcfbert.genotypes.panel import Panel


@dataclass(frozen=True)
class ReferenceSubset:
    """All haplotypes of some of a panel's samples: of the training split in training, of all samples in a bundle.

    ``haplotypes`` int64 [n]: indices in the panel, ascending. A *row* of the subset is an index into this array.
    """

    panel: Panel
    haplotypes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.haplotypes)

    @cached_property
    def af(self) -> npt.NDArray[np.float64]:
        """ALT allele frequency among the subset's haplotypes, [n_sites]."""
        if len(self) == self.panel.n_haplotypes:
            return self.panel.af
        return np.asarray(self.panel.blocks.allele_counts(self.haplotypes) / len(self))

    @cached_property
    def pairs(self) -> npt.NDArray[np.int64]:
        """[n_samples of the subset, 2]: the rows of each sample, as in ``Panel.pairs``."""
        rows = self.rows(self.panel.pairs)
        return rows[rows[:, 0] >= 0]

    def rows_of_sample(self, haplotypes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Rows [n, 2] of the samples to which the panel's ``haplotypes`` [n] belong; -1 if not in the subset."""
        sample = np.searchsorted(self.panel.pairs[:, 1], haplotypes)
        return self.rows(self.panel.pairs[sample])

    def alleles(self, sites: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Alleles uint8 [n, n chosen sites], 0 = REF, 1 = ALT."""
        return self.panel.alleles(sites, self.haplotypes)

    def bits(self, sites: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """Alleles uint64 [n, ceil(n chosen sites / 64)], as of ``SiteBlocks.bits``."""
        return self.panel.blocks.bits(sites, self.haplotypes)

    def rows(self, haplotypes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Rows int64 of the given panel ``haplotypes``, in their shape; -1 for a haplotype not in the subset."""
        place = np.searchsorted(self.haplotypes, haplotypes).clip(max=len(self) - 1)
        return np.where(self.haplotypes[place] == haplotypes, place, -1)
