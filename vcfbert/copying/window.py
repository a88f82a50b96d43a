"""One window and one set of typed sites, made ready for the haploid HMMs, and the targets that are copied there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from vcfbert.copying.haploid import Copied, Heads, copy
from vcfbert.copying.intervals import Intervals
from vcfbert.copying.mixture import PRIOR_STRENGTH, Mixture, prior
from vcfbert.copying.pbwt import PanelOrder
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.kernels import Alleles, Calls, Doubles, Floats, Indices, Numbers

# A window for many calls is cut once if the reference subset has at most this many haplotypes. More would take much
# memory, of which a call with few targets reads little.
MAX_CUT_ONCE: Final = 4_096


@dataclass(frozen=True)
class HmmWindow:
    """l sites of a window, t typed sites in and around it, and the reference subset's alleles there."""

    reference: ReferenceSubset
    sites: slice | Indices  # panel site indices, ascending
    key: Indices  # [t], panel site indices of the typed sites
    order: PanelOrder  # of the reference subset at the typed sites
    fraction: Floats  # [l], as in ``haploid.copy``
    # Of all haplotypes of the subset, for windows of many calls; None if each call cuts those that its targets copy.
    intervals: Intervals | None = None

    @classmethod
    def of(
        cls,
        reference: ReferenceSubset,
        sites: slice | Indices,
        key: Indices,
        *,
        for_many: bool = False,
        threads: int = 1,
    ) -> HmmWindow:
        """``sites`` and ``key``: panel site indices, ascending. ``for_many``: calls with other targets follow.

        Results do not depend on ``for_many``.
        """
        cm = reference.panel.cm
        fraction = place_between(cm[sites], cm[key], key_place(sites, key))
        order = PanelOrder.build(reference.bits(key), cm[key], threads=threads)
        intervals = None
        if for_many and len(reference) <= MAX_CUT_ONCE:
            blocks, place = reference.panel.blocks, key_place(sites, key)
            intervals = Intervals.cut(blocks, sites, place, reference.haplotypes, threads=threads)
        return cls(reference, sites, key, order, fraction, intervals)

    @property
    def key_cm(self) -> Doubles:
        """[t]: genetic positions of the typed sites."""
        return self.reference.panel.cm[self.key]

    def heads(self, mixture: Mixture) -> Heads:
        """The mixture's heads at the window's sites."""
        af = self.reference.af
        return mixture.heads(self.key_cm, af[self.key], af[self.sites])

    def states(self, calls: Calls, k: int, *, exclude: Indices | None = None, threads: int = 1) -> Numbers:
        """The ``k`` rows of the reference subset that each target may copy, int32 [n, k], ascending.

        ``calls`` int8 [t, n]: of n target haplotypes, -1 where missing. ``exclude`` int64 [n, e]: rows that a target
        may not copy; -1 for none.
        """
        return self.order.phased_states(calls, k, exclude, threads=threads)

    def targets(
        self, calls: Calls, chosen: Numbers, prior_strength: float = PRIOR_STRENGTH, *, threads: int = 1
    ) -> WindowTargets:
        """Targets with ``calls`` int8 [t, n] that may copy the ``chosen`` rows int32 [n, k] of the reference subset."""
        if self.intervals is None:
            used = np.zeros(len(self.reference), dtype=bool)
            used[chosen] = True
            rows = np.flatnonzero(used)
            states: Numbers = (np.cumsum(used, dtype=np.int32) - 1)[chosen]
            place, haplotypes = key_place(self.sites, self.key), self.reference.haplotypes[rows]
            intervals = Intervals.cut(self.reference.panel.blocks, self.sites, place, haplotypes, threads=threads)
        else:
            rows, states, intervals = np.arange(len(self.reference)), chosen, self.intervals
        alleles = self.order.alleles(rows)
        chances = prior(self.order.mismatches(calls, chosen), (calls >= 0).sum(axis=0), prior_strength)
        return WindowTargets(calls, alleles, states, chances, intervals)


@dataclass(frozen=True)
class WindowTargets:
    """n target haplotypes in one window, with the k haplotypes that each may copy, of r that are copied at all."""

    calls: Calls  # [t, n]
    alleles: Alleles  # [t, r] at the typed sites
    states: Numbers  # [n, k], of the r
    prior: Floats  # [n, k]
    intervals: Intervals  # of the r

    def copied(self, heads: Heads, fraction: Floats, *, threads: int = 1) -> Copied:
        """ALT probabilities of the copied alleles by the mixture of ``heads``; ``fraction`` as in ``HmmWindow``."""
        return copy(self.calls, self.alleles, self.states, self.prior, heads, self.intervals, fraction, threads=threads)


def key_place(sites: slice | Indices, key: Indices) -> Indices:
    """The index of each typed site among ``sites``, or of the last of them before it: int64 [t], from -1."""
    if isinstance(sites, slice):
        return np.asarray(key - int(sites.start))
    return np.asarray(np.searchsorted(sites, key, side="right") - 1)


def place_between(cm: Doubles, key_cm: Doubles, key_place: Indices) -> Floats:
    """The place of l sites at ``cm`` [l] between their two typed neighbours, float32 [l].

    It runs from 0 at the left neighbour to 1 at the right one, in genetic distance. It is 1 before the first typed site
    and 0 after the last, so that beyond the outermost typed site that site's copying probabilities hold. ``key_cm``,
    ``key_place`` [t]: position of the typed sites, and their index counted from the first of the l.
    """
    interval = np.searchsorted(key_place, np.arange(len(cm)))
    left, right = key_cm[(interval - 1).clip(min=0)], key_cm[interval.clip(max=len(key_cm) - 1)]
    fraction = ((cm - left) / (right - left).clip(min=1e-9)).clip(0.0, 1.0)
    fraction[interval == 0] = 1.0
    fraction[interval == len(key_cm)] = 0.0
    out: Floats = fraction.astype(np.float32)
    return out
