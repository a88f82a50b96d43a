"""Fills the unknown alleles of a panel by the panel's own haplotypes, before anything else uses it.

Each haplotype with unknown alleles is imputed as a target is, by a Li-Stephens HMM (``mixture.py``) over the haplotypes
that share the longest segments with it. All sites of the panel are typed. An unknown allele of the haplotype itself has
emission 1, and it cannot copy its own sample. Unknown alleles of the others are the more frequent ones in a first
round, and those that the first round filled in a second. Only training haplotypes are copied, so that nothing of the
validation samples gets into the rest of the panel.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from vcfbert.copying.mixture import FIRST_RATES, KNOTS, Mixture, inherited
from vcfbert.copying.window import HmmWindow
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.site_blocks import SiteBlocks
from vcfbert.genotypes.vcf_reader import Progress
from vcfbert.kernels import Alleles, Floats, Indices

_LOG = logging.getLogger(__name__)

STATES: Final = 200  # haplotypes that one may copy
ROUNDS: Final = 2
CORE, CONTEXT = 1024, 256  # sites filled at a time, and sites used on each side of them
BATCH: Final = 512  # haplotypes imputed at a time
CERTAIN: Final = 0.9  # an allele of a lower probability counts as uncertain


class PanelFiller:
    """``Filler`` (``genotypes/unknown_alleles.py``) by the panel's own haplotypes."""

    def __init__(self, max_share: float, *, threads: int = 2, progress: Progress | None = None) -> None:
        """``progress`` is called with the number of sites so far."""
        self._max_share = max_share
        self._threads = threads
        self._progress = progress

    @property
    def max_share(self) -> float:
        return self._max_share

    def filled(self, panel: Panel, unknown: Alleles) -> Iterator[Alleles]:
        n_unknown, n_uncertain = 0, 0
        for start in range(0, panel.n_sites, CORE):
            stop = min(start + CORE, panel.n_sites)
            around = slice(max(start - CONTEXT, 0), min(stop + CONTEXT, panel.n_sites))
            core = slice(start - around.start, stop - around.start)
            mask = np.unpackbits(unknown[around], axis=1, count=panel.n_haplotypes).view(np.bool_)
            alleles = np.ascontiguousarray(panel.alleles(around).T)
            if mask[core].any():
                alleles, alt = self._filled_window(panel, around, alleles, mask)
                p = alt[core][mask[core]]
                n_unknown += len(p)
                n_uncertain += int(np.count_nonzero(np.maximum(p, 1.0 - p) < CERTAIN))
            yield np.packbits(alleles[core], axis=1)
            if self._progress is not None:
                self._progress(stop)
        uncertain = n_uncertain / max(n_unknown, 1)
        _LOG.warning(
            "%s: of the filled alleles %.1f%% have a probability below %g", panel.region, 100 * uncertain, CERTAIN
        )

    def _filled_window(
        self, panel: Panel, around: slice, alleles: Alleles, unknown: npt.NDArray[np.bool_]
    ) -> tuple[Alleles, Floats]:
        """Filled alleles [n, h] of the sites ``around``, and ALT probabilities [n, h] of the ``unknown`` ones."""
        n_known = (~unknown).sum(axis=1)
        more_frequent = (2 * (alleles & ~unknown).sum(axis=1) > n_known)[:, None]
        filled = np.where(unknown, more_frequent, alleles).astype(np.uint8)
        alt = np.where(unknown, filled, 0).astype(np.float32)
        if len(panel.training_haplotypes) <= 2:
            return filled, alt
        for _ in range(ROUNDS):
            alt = self._imputed(_window_panel(panel, around, filled), filled, unknown)
            filled = np.where(unknown, alt > 0.5, alleles).astype(np.uint8)
        return filled, alt

    def _imputed(self, panel: Panel, alleles: Alleles, unknown: npt.NDArray[np.bool_]) -> Floats:
        """ALT probabilities [n, h] of ``unknown`` alleles [n, h]; 0 elsewhere."""
        reference = ReferenceSubset(panel, panel.training_haplotypes)
        window = HmmWindow.of(reference, slice(0, panel.n_sites), np.arange(panel.n_sites), threads=self._threads)
        mixture = Mixture(FIRST_RATES, np.ones((len(KNOTS), 1)))
        heads = window.heads(mixture)
        alt = np.zeros(alleles.shape, np.float32)
        incomplete = np.flatnonzero(unknown.any(axis=0))
        for first in range(0, len(incomplete), BATCH):
            batch: Indices = incomplete[first : first + BATCH]
            calls = np.ascontiguousarray(np.where(unknown[:, batch], -1, alleles[:, batch]).astype(np.int8))
            k = min(STATES, len(reference) - 2)
            own = reference.rows_of_sample(batch)
            chosen = window.states(calls, k, exclude=own, threads=self._threads)
            targets = window.targets(calls, chosen, threads=self._threads)
            copied = targets.copied(heads, window.fraction, threads=self._threads)
            alt[:, batch] = np.where(unknown[:, batch], inherited(copied.dosage).T, 0.0)
        return alt


def _window_panel(panel: Panel, sites: slice, alleles: Alleles) -> Panel:
    """The panel at ``sites``, with these ``alleles`` [n, h]."""
    return dataclasses.replace(
        panel,
        sites=panel.sites.take(sites),
        blocks=SiteBlocks.of(np.packbits(alleles, axis=1), panel.n_haplotypes),
        cm=panel.cm[sites],
        allele_count=alleles.sum(axis=1, dtype=np.int64),
    )
