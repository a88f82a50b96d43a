"""Intervals of alleles that are given as an array."""

from __future__ import annotations

import numpy as np

from vcfbert.copying.intervals import Intervals
from vcfbert.genotypes.site_blocks import SiteBlocks
from vcfbert.kernels import Alleles, Indices


def intervals_of(alleles: Alleles, place: Indices, *, threads: int = 1) -> Intervals:
    """Cuts ``alleles`` [r, l] after the sites ``place`` [t]."""
    blocks = SiteBlocks.of_alleles(alleles)
    return Intervals.cut(blocks, slice(None), place, np.arange(len(alleles)), threads=threads)
