"""Simulates a panel, so that benchmarks run without a VCF reader."""

from __future__ import annotations

import numpy as np

from vcfbert.genotypes.panel import Panel, Sites
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.site_blocks import SiteBlocks

FOUNDERS = 60
SITES_PER_SWITCH = 1500  # mean length of a segment copied from one founder
SITES_PER_CM = 6000.0  # chr20:1-4 Mb of the demo panel has 24,990 sites in 4 cM


def simulate_panel(n_haplotypes: int, n_sites: int, seed: int = 17) -> Panel:
    """A panel of mosaics of a few founders. As in real panels, most sites are rare and windows have identical
    haplotypes.
    """
    rng = np.random.default_rng(seed)
    frequency = rng.beta(0.15, 1.2, size=n_sites).clip(0.5 / FOUNDERS, 0.99)
    founders = (rng.random((FOUNDERS, n_sites)) < frequency).astype(np.uint8)
    alleles = np.empty((n_haplotypes, n_sites), dtype=np.uint8)
    for haplotype in alleles:
        switches = np.flatnonzero(rng.random(n_sites) < 1.0 / SITES_PER_SWITCH)
        lengths = np.diff([0, *switches, n_sites])
        haplotype[:] = founders[np.repeat(rng.integers(FOUNDERS, size=len(lengths)), lengths), np.arange(n_sites)]
    ref, alt = np.full(n_sites, "A", dtype=object), np.full(n_sites, "C", dtype=object)
    pos = 1 + 120 * np.arange(n_sites, dtype=np.int32)
    return Panel(
        region=Region("20"),
        samples=tuple(f"S{i}" for i in range(n_haplotypes // 2)),
        sites=Sites("20", pos, ref, alt, np.full(n_sites, ".", dtype=object), np.zeros(n_sites, dtype=bool)),
        blocks=SiteBlocks.of_alleles(alleles),
        cm=np.arange(n_sites) / SITES_PER_CM,
        allele_count=alleles.sum(axis=0, dtype=np.int64),
        validation=(),
        digest="simulated",
    )
