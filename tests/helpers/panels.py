"""Panels cut out of other panels, and panels of given sites."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vcfbert.genotypes.panel import Panel, Sites
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.site_blocks import SiteBlocks
from vcfbert.genotypes.store import panel_digest


def subset_panel(
    panel: Panel,
    *,
    samples: Sequence[int] | None = None,
    sites: npt.NDArray[np.int64] | slice | None = None,
) -> Panel:
    """A panel of some samples and sites (indices), in memory and with its own digest.

    Validation samples that are kept stay validation samples. A site's ``continues`` becomes False where the site
    before it was removed.
    """
    kept_samples = np.arange(len(panel.samples)) if samples is None else np.asarray(samples, dtype=np.int64)
    kept_sites = np.arange(panel.n_sites)[slice(None) if sites is None else sites]
    haploid, held_out = np.isin(kept_samples, panel.haploid), np.isin(kept_samples, panel.validation)
    pairs = panel.pairs[kept_samples]
    haplotypes = pairs[np.stack([np.ones_like(haploid), ~haploid], axis=1)]
    alleles = panel.alleles(kept_sites, haplotypes)  # [haplotypes, sites]
    table = panel.sites.take(kept_sites)
    follows = np.append(False, np.diff(kept_sites) == 1)
    subset = Panel(
        region=panel.region,
        samples=tuple(panel.samples[i] for i in kept_samples),
        sites=Sites(table.chrom, table.pos, table.ref, table.alt, table.id, table.continues & follows),
        blocks=SiteBlocks.of_alleles(alleles),
        cm=panel.cm[kept_sites],
        allele_count=alleles.sum(axis=0, dtype=np.int64),
        validation=tuple(np.flatnonzero(held_out).tolist()),
        digest="",
        haploid=tuple(np.flatnonzero(haploid).tolist()),
    )
    return dataclasses.replace(subset, digest=panel_digest(subset))


def panel_of_sites(sites: Sequence[tuple[int, str, str, str, bool]]) -> Panel:
    """A panel of one monomorphic sample on chromosome 20. ``sites``: position, REF, ALT, ID, and ``continues``."""
    pos, ref, alt, id_, continues = (list(column) for column in zip(*sites, strict=True))
    table = Sites(
        "20",
        np.array(pos, dtype=np.int32),
        np.array(ref, dtype=object),
        np.array(alt, dtype=object),
        np.array(id_, dtype=object),
        np.array(continues),
    )
    n = len(sites)
    blocks = SiteBlocks.of_alleles(np.zeros((2, n), dtype=np.uint8))
    return Panel(Region("20"), ("P1",), table, blocks, np.arange(n) / 100, np.zeros(n, np.int64), (), digest="0")
