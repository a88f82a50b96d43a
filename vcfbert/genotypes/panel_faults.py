"""What is wrong with a panel that was read from a store, so that neither Python nor the kernels trust its arrays.

The hashes of a store say that its files are those that were written. They do not say that the writer was right.
"""

from __future__ import annotations

import numpy as np

from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.regions import Region


def panel_fault(panel: Panel) -> str | None:
    """The first fault of the panel's manifest entry, sites or blocks; None if it has none.

    May raise TypeError or ValueError where a value has not even the type that it should have.
    """
    if not _is_described(panel):
        return "the manifest does not describe a panel: its region, samples or digest are no such values"
    if not _has_sites(panel):
        return "sites.npz does not hold sorted sites with alleles, genetic positions and allele counts"
    blocks = panel.blocks
    # The shapes are those of arrays only once the blocks are consistent.
    if not blocks.is_consistent() or (blocks.n_sites, blocks.n_haplotypes) != (panel.n_sites, panel.n_haplotypes):
        return "rows.npy and numbers.npy do not match the panel's sites and samples"
    return None


def _is_described(panel: Panel) -> bool:
    n_samples = len(panel.samples)
    texts = (panel.region.chrom, panel.digest, *panel.samples)
    return (
        n_samples > 0
        and all(isinstance(text, str) for text in texts)
        and _is_region(panel.region)
        and _are_samples(panel.haploid, n_samples)
        and list(panel.haploid) == sorted(set(panel.haploid))
        and _are_samples(panel.validation, n_samples)
    )


def _is_region(region: Region) -> bool:
    return isinstance(region.start, int) and (region.stop is None or isinstance(region.stop, int))


def _are_samples(numbers: tuple[int, ...], n_samples: int) -> bool:
    return all(isinstance(number, int) and 0 <= number < n_samples for number in numbers)


def _has_sites(panel: Panel) -> bool:
    sites = panel.sites
    numbers = ((sites.pos, np.int32), (sites.continues, np.bool_), (panel.cm, np.float64))
    columns = (*numbers, (panel.allele_count, np.int64))
    if any(column.dtype != dtype or column.ndim != 1 for column, dtype in columns):
        return False
    texts = (sites.ref, sites.alt, sites.id, *(() if sites.info is None else (sites.info.texts,)))
    lengths = {len(column) for column in (*(column for column, _ in columns), *texts)}
    if lengths != {len(sites)} or len(sites) == 0:
        return False
    counted = ((panel.allele_count >= 0) & (panel.allele_count <= panel.n_haplotypes)).all()
    ascending = (sites.pos[1:] >= sites.pos[:-1]).all() and (panel.cm[1:] >= panel.cm[:-1]).all()
    return bool(counted and ascending and sites.pos[0] > 0 and np.isfinite(panel.cm).all())
