"""Selects the K reference haplotypes that a target may copy among its neighbours in the panel's sorted orders.

A positional Burrows-Wheeler transform (PBWT; Durbin 2014, Bioinformatics 30:1266) keeps the panel's haplotypes sorted
by their alleles, read backwards from each typed site. Haplotypes that share a long segment with each other up to that
site are neighbours. The forward order sorts by the sites to the left, the reverse order by the sites to the right.

Both orders are computed once for all targets. A target has a place in each of them, which follows from its place at
the site before by counting alleles. The haplotypes next to its places are its candidates. The candidates with the
longest IBS segments become its states (``states.py``). So a target's cost hardly grows with the panel.

Memory: an order has 4 bytes a haplotype and typed site. Where that is more than ``MAX_ORDER_BYTES``, only every n-th
order is kept. A place in another order is followed to the next kept one, by the alleles in between. These are 1 bit a
haplotype and site, and counts of half a bit. Results do not depend on which orders are kept.

A haplotype that is near the target at some site comes before one that is far everywhere. This order decides between
equal segments, and fills the K states where fewer haplotypes have one of the longest segments. Beyond those, nearness
in the sorted orders says more than the number of mismatches over the whole retrieval window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from vcfbert.copying.states import (
    SEGMENTS_PER_SITE,
    Booleans,
    alleles_of,
    best_states,
    check_states,
    count_mismatches,
    fill_states,
    packed_alleles,
    unpacked,
)
from vcfbert.kernels import Alleles, Bits, Calls, Doubles, Indices, Numbers, compiled, divide_among_threads

MAX_SEARCHED: Final = 20_000  # haplotypes of a panel that is searched whole
NEIGHBOURS: Final = 16  # candidates on each side of a target's place in each order
MAX_ORDER_BYTES: Final = 1 << 28  # of the kept orders of both directions


class Sweep(NamedTuple):
    """The orders of h haplotypes along t typed sites, in steps from the first site on, or from the last.

    ``columns``: bit i of step s is the allele at that step's site of the haplotype in place i before the step.
    ``kept``: order 0 precedes all steps. Order i > 0 follows step n * i - 1, and the last one the last step, if every
    n-th order is kept.
    """

    columns: Bits  # [t, h // 64 + 1]
    alt_before: Numbers  # [t, h // 64 + 1]: ALT alleles of the column in the words before each word
    ref_count: Numbers  # [t]: REF alleles of the column
    kept: Numbers  # [ceil(t / n) + 1, h]


def empty_sweep(t: int, h: int, every: int) -> Sweep:
    columns, alt_before = np.empty((t, h // 64 + 1), np.uint64), np.empty((t, h // 64 + 1), np.int32)
    return Sweep(columns, alt_before, np.empty(t, np.int32), np.empty((-(-t // every) + 1, h), np.int32))


@compiled
def sort_haplotypes(panel: Bits, backwards: bool, every: int, sweep: Sweep) -> None:
    """Fills ``sweep`` from ``panel`` [h, ceil(t / 64)]: each step moves haplotypes with ALT behind those with REF.

    ``every``: one of so many orders is kept.
    """
    t, h = len(sweep.columns), len(panel)
    alleles = unpacked(panel, t)
    order = np.arange(h, dtype=np.int32)
    sweep.kept[0] = order
    for step in range(t):
        carried = alleles[order, t - 1 - step if backwards else step]
        sweep.columns[step] = packed_alleles(np.append(carried, np.zeros(64 - h % 64, np.bool_))[:, None])
        sweep.alt_before[step] = np.concatenate([[0], np.cumsum(np.bitwise_count(sweep.columns[step]))[:-1]])
        sweep.ref_count[step] = h - carried.sum()
        order = order[np.argsort(carried, kind="stable")]
        if (step + 1) % every == 0 or step + 1 == t:
            sweep.kept[-(-(step + 1) // every)] = order


def _visit(alleles: Booleans, ref: Booleans, alt: Booleans, width: int, skipped: Booleans, distance: Numbers) -> None:
    """Lowers ``distance`` [h] of the haplotypes within ``width`` places of a target after each step to those places.

    ``alleles`` [h, t], and ``ref`` and ``alt`` [t], where the target has each allele, in the order of the steps. Where
    its call is missing, the target moves with most of its neighbours, and with REF if they are even. Haplotypes in
    ``skipped`` [h] do not count as places.
    """
    order, place, near = np.arange(len(alleles)), 0, np.empty(0, np.int64)
    for step in range(len(ref)):
        known = ref[step] or alt[step]
        allele = alt[step] if known else 2 * alleles[near, step].sum() > len(near)
        carried = alleles[order, step]
        n_alt = carried[:place].sum()
        place = (~carried).sum() + n_alt if allele else place - n_alt
        order = order[np.argsort(carried, kind="stable")]
        sides = [side[~skipped[side]][:width] for side in (order[:place][::-1], order[place:])]
        for side in sides:
            distance[side] = np.minimum(distance[side], np.arange(len(side)) + 1)
        near = np.concatenate(sides)


@compiled
def fill_sorted_states(
    forward: Sweep,
    backward: Sweep,
    every: int,
    panel: Bits,
    refs: Bits,
    alts: Bits,
    cm: Doubles,
    exclude: Indices,
    neighbours: int,
    n_longest: int,
    targets: Indices,
    out: Numbers,
) -> None:
    """Fills the rows of ``out`` [n, k] that ``targets`` names, best first, from the targets' neighbours.

    Here each target sorts the panel again. The compiled twin looks the orders up in the sweeps. The other arguments are
    those of ``fill_states``.
    """
    h, t, k = len(panel), len(cm), out.shape[1]
    alleles, ref, alt = unpacked(panel, t), unpacked(refs, t), unpacked(alts, t)
    for target in targets:
        skipped = np.isin(np.arange(h), exclude[target])
        width, order = neighbours, np.flatnonzero(~skipped) if t == 0 else np.empty(0, np.int64)
        while len(order) < k:
            distance = np.full(h, h + 1, np.int32)
            for sites in (slice(None), slice(None, None, -1)):
                _visit(alleles[:, sites], ref[target, sites], alt[target, sites], width, skipped, distance)
            nearest = np.argsort(distance, kind="stable")
            order = nearest[distance[nearest] <= h]
            width *= 2
        conflicts = np.where(alleles[order], ref[target], alt[target])
        out[target] = best_states(conflicts, cm, order.astype(np.int32), n_longest, k)


@dataclass(frozen=True)
class PanelOrder:
    """The sorted orders of a panel's h haplotypes at t typed sites. It serves any number of targets and threads."""

    panel: Bits  # [h, ceil(t / 64)]
    cm: Doubles  # [t]
    sweeps: tuple[Sweep, Sweep] | None = None  # forward and reverse; None if the panel is searched whole
    every: int = 1  # one of so many orders is kept

    @classmethod
    def build(
        cls,
        panel: Bits,
        cm: Doubles,
        *,
        threads: int = 1,
        max_bytes: int = MAX_ORDER_BYTES,
        max_searched: int = MAX_SEARCHED,
    ) -> PanelOrder:
        """Sorts the haplotypes of ``panel`` at each typed site.

        ``panel`` uint64 [h, ceil(t / 64)], as of ``SiteBlocks.bits``. ``cm`` [t], ascending. ``max_bytes``: of the
        orders kept. ``max_searched``: haplotypes of a panel that is searched whole. Raises ValueError if shapes
        disagree.
        """
        h, t = len(panel), len(cm)
        if panel.shape[1] != -(-t // 64):
            raise ValueError(f"panel {panel.shape}, but {t} cM")
        positions = np.ascontiguousarray(cm, dtype=np.float64)
        if h <= max_searched:
            return cls(panel, positions)
        every = max(-(-8 * t * h // max_bytes), 1)
        sweeps = (empty_sweep(t, h, every), empty_sweep(t, h, every))

        def work(directions: Indices) -> None:
            for backwards in directions:
                sort_haplotypes(panel, bool(backwards), every, sweeps[backwards])

        divide_among_threads(work, 2, threads)
        return cls(panel, positions, sweeps, every)

    def mismatches(self, observed: Calls, states: Numbers) -> Numbers:
        """int32 [n, k]: typed sites where each of the ``states`` [n, k] differs from its target's known call.

        ``observed`` int8 [t, n] as in ``phased_states``.
        """
        out = np.empty(states.shape, np.int32)
        count_mismatches(self.panel, packed_alleles(observed == 0), packed_alleles(observed == 1), states, out)
        return out

    def alleles(self, haplotypes: Indices) -> Alleles:
        """Alleles uint8 [t, n] of n ``haplotypes``."""
        return alleles_of(self.panel[haplotypes], len(self.cm))

    @property
    def nbytes(self) -> int:
        """Host memory of all arrays."""
        both = self.sweeps or ()
        sweeps = sum(s.columns.nbytes + s.alt_before.nbytes + s.ref_count.nbytes + s.kept.nbytes for s in both)
        return self.panel.nbytes + self.cm.nbytes + sweeps

    def phased_states(
        self,
        observed: Calls,
        k: int,
        exclude: Indices | None = None,
        *,
        threads: int = 1,
        neighbours: int = NEIGHBOURS,
        segments_per_site: int = SEGMENTS_PER_SITE,
    ) -> Numbers:
        """States int32 [n, k] of n target haplotypes: panel haplotypes in ascending order.

        ``observed`` int8 [t, n]: alleles at typed sites; -1 where missing, which conflicts with no allele. ``exclude``
        int64 [n, e]: haplotypes that a target may not have, such as its own; -1 for none. ``neighbours``: candidates
        on each side of the target's place in each order; doubled until there are k in all.

        A row depends on its own target alone, and is the same as in a panel without the excluded haplotypes. Of equal
        segments, that of the haplotype with the least distance in places ranks first. In a panel that is searched
        whole, it is that of the haplotype with the fewest mismatches. Otherwise the panel's order decides. Raises
        ValueError if shapes disagree or fewer than k haplotypes remain.
        """
        excluded = check_states(observed, self.panel, self.cm, k, exclude)
        refs, alts = packed_alleles(observed == 0), packed_alleles(observed == 1)
        out = np.empty((observed.shape[1], k), np.int32)

        def work(targets: Indices) -> None:
            panel, cm, n_longest = self.panel, self.cm, segments_per_site
            if self.sweeps is None:
                fill_states(panel, refs, alts, cm, excluded, n_longest, targets, out)
            else:
                forward, backward = self.sweeps
                fill_sorted_states(
                    forward, backward, self.every, panel, refs, alts, cm, excluded, neighbours, n_longest, targets, out
                )

        divide_among_threads(work, observed.shape[1], threads)
        return np.sort(out, axis=1)
