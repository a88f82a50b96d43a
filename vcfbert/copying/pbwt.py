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
import numpy.typing as npt

from vcfbert.copying.states import (
    SEGMENTS_PER_SITE,
    Bits,
    best_states,
    check_states,
    fill_states,
    packed_alleles,
    set_bits,
)
from vcfbert.kernels import Alleles, Calls, Doubles, Indices, Numbers, divide_among_threads, jitted_exactly

MAX_SEARCHED: Final = 20_000  # haplotypes of a panel that is searched whole
NEIGHBOURS: Final = 16  # candidates on each side of a target's place in each order
MAX_ORDER_BYTES: Final = 1 << 28  # of the kept orders of both directions


class Sweep(NamedTuple):
    """The orders of h haplotypes along t typed sites, in steps from the first site on, or from the last.

    ``columns``: bit i of step s is the allele at that step's site of the haplotype in place i before the step.
    ``kept``: order 0 precedes all steps. Order i > 0 follows step ``every`` * i - 1, and the last one the last step.
    """

    columns: Bits  # [t, h // 64 + 1]
    alt_before: Numbers  # [t, h // 64 + 1]: ALT alleles of the column in the words before each word
    ref_count: Numbers  # [t]: REF alleles of the column
    kept: Numbers  # [ceil(t / every) + 1, h]
    every: int


def _empty_sweep(t: int, h: int, every: int) -> Sweep:
    columns, alt_before = np.empty((t, h // 64 + 1), np.uint64), np.empty((t, h // 64 + 1), np.int32)
    return Sweep(columns, alt_before, np.empty(t, np.int32), np.empty((-(-t // every) + 1, h), np.int32), every)


@jitted_exactly
def _sort(alleles: Alleles, backwards: bool, sweep: Sweep) -> None:
    """Fills ``sweep`` from ``alleles`` [t, h]: each step moves the haplotypes with ALT behind those with REF."""
    t, h = alleles.shape
    order, with_alt = np.arange(h).astype(np.int32), np.empty(h, np.int32)
    sweep.kept[0] = order
    for step in range(t):
        row = alleles[t - 1 - step if backwards else step]
        n_ref, n_alt = 0, 0
        for word in range(sweep.columns.shape[1]):
            sweep.alt_before[step, word] = n_alt
            bits = np.uint64(0)
            for place in range(64 * word, min(64 * word + 64, h)):
                haplotype = order[place]
                allele = row[haplotype]
                bits |= np.uint64(allele) << np.uint64(place - 64 * word)
                # Writing to both sides avoids a branch that cannot be predicted.
                order[n_ref] = haplotype
                with_alt[n_alt] = haplotype
                n_ref += 1 - allele
                n_alt += allele
            sweep.columns[step, word] = bits
        order[n_ref:] = with_alt[:n_alt]
        sweep.ref_count[step] = n_ref
        if (step + 1) % sweep.every == 0 or step + 1 == t:
            sweep.kept[-(-(step + 1) // sweep.every)] = order


@jitted_exactly
def _bit(bits: Bits, number: int) -> int:
    """Bit ``number`` of ``bits`` [words]."""
    return 1 if bits[number // 64] >> np.uint64(number % 64) & np.uint64(1) else 0


@jitted_exactly
def _moved(sweep: Sweep, step: int, place: int, allele: int) -> int:
    """The place after a step of what is in ``place`` before it and carries ``allele`` at the step's site."""
    word = place // 64
    below = (np.uint64(1) << np.uint64(place % 64)) - np.uint64(1)
    alt = sweep.alt_before[step, word] + np.int64(set_bits(sweep.columns[step, word] & below))
    moved: int = sweep.ref_count[step] + alt if allele else place - alt
    return moved


@jitted_exactly
def _haplotype_at(sweep: Sweep, step: int, place: int) -> int:
    """The haplotype in ``place`` after a step."""
    number = -(-(step + 1) // sweep.every)
    last = min(number * sweep.every, len(sweep.columns))
    for later in range(step + 1, last):
        place = _moved(sweep, later, place, _bit(sweep.columns[later], place))
    haplotype: int = sweep.kept[number, place]
    return haplotype


@jitted_exactly
def _visit(
    sweep: Sweep,
    backwards: bool,
    panel: Bits,
    ref: Bits,
    alt: Bits,
    width: int,
    skipped: npt.NDArray[np.bool_],
    distance: Numbers,
    found: Numbers,
    count: int,
) -> int:
    """Appends to the first ``count`` of ``found`` the haplotypes within ``width`` places of the target after each step.

    ``distance`` int32 [h]: the least distance of each haplotype in places, 0 if not found. ``ref`` and ``alt`` [words]:
    the target's sites with each allele. Where its call is missing, the target moves with most of its neighbours, and
    with REF if they are even. Haplotypes in ``skipped`` bool [h] do not count as places. Returns the new count.
    """
    t, h = len(sweep.columns), len(panel)
    near, n_near = np.empty(2 * width, np.int32), 0
    place = 0
    for step in range(t):
        site = t - 1 - step if backwards else step
        allele = _bit(alt, site)
        if not allele and not _bit(ref, site):
            n_alt = 0
            for i in range(n_near):
                n_alt += _bit(panel[near[i]], site)
            allele = 1 if 2 * n_alt > n_near else 0
        place = _moved(sweep, step, place, allele)
        n_near = 0
        for change in (-1, 1):
            i, places = place + min(change, 0), 0
            while 0 <= i < h and places < width:
                haplotype = _haplotype_at(sweep, step, i)
                i += change
                if skipped[haplotype]:
                    continue
                places += 1
                near[n_near] = haplotype
                n_near += 1
                if distance[haplotype] == 0:
                    found[count] = haplotype
                    count += 1
                    distance[haplotype] = places
                elif places < distance[haplotype]:
                    distance[haplotype] = places
    return count


@jitted_exactly
def _nearest_first(found: Numbers, distance: Numbers, width: int) -> Numbers:
    """The haplotypes ``found``, by ``distance`` of at most ``width``, ties in the panel's order."""
    first = np.zeros(width + 2, np.int64)
    for haplotype in found:
        first[distance[haplotype] + 1] += 1
    first = np.cumsum(first)
    order = np.empty_like(found)
    for haplotype in np.sort(found):
        order[first[distance[haplotype]]] = haplotype
        first[distance[haplotype]] += 1
    return order


@jitted_exactly
def _fill(
    forward: Sweep,
    backward: Sweep,
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
    """Fills the rows of ``out`` [n, k] that ``targets`` names, best first."""
    h, k = len(panel), out.shape[1]
    skipped, distance, found = np.zeros(h, np.bool_), np.zeros(h, np.int32), np.empty(h, np.int32)
    for target in targets:
        ref, alt = refs[target], alts[target]
        for haplotype in exclude[target]:
            if haplotype >= 0:
                skipped[haplotype] = True
        width, order = neighbours, np.empty(0, np.int32)
        if len(cm) == 0:  # there is no order, so the first of the panel are taken
            order = np.flatnonzero(~skipped).astype(np.int32)
        while len(order) < k:
            count = _visit(forward, False, panel, ref, alt, width, skipped, distance, found, 0)
            count = _visit(backward, True, panel, ref, alt, width, skipped, distance, found, count)
            order = _nearest_first(found[:count], distance, width)
            distance[order] = 0
            width *= 2
        out[target] = best_states(panel, ref, alt, cm, order, n_longest, k)
        for haplotype in exclude[target]:
            if haplotype >= 0:
                skipped[haplotype] = False


@dataclass(frozen=True)
class PanelOrder:
    """The sorted orders of a panel's h haplotypes at t typed sites. It serves any number of targets and threads."""

    panel: Bits  # [h, ceil(t / 64)]
    cm: Doubles  # [t]
    sweeps: tuple[Sweep, Sweep] | None  # forward and reverse; None if the panel is searched whole

    @classmethod
    def build(
        cls,
        alleles: Alleles,
        cm: Doubles,
        *,
        threads: int = 1,
        max_bytes: int = MAX_ORDER_BYTES,
        max_searched: int = MAX_SEARCHED,
    ) -> PanelOrder:
        """Sorts the haplotypes of ``alleles`` uint8 [t, h] at each typed site. ``cm`` [t], ascending.

        ``max_bytes``: of the orders kept. ``max_searched``: haplotypes of a panel that is searched whole. Raises
        ValueError if shapes disagree.
        """
        t, h = alleles.shape
        if len(cm) != t:
            raise ValueError(f"alleles {alleles.shape}, but {len(cm)} cM")
        panel, positions = packed_alleles(alleles), np.ascontiguousarray(cm, dtype=np.float64)
        if h <= max_searched:
            return cls(panel, positions, None)
        every = max(-(-8 * t * h // max_bytes), 1)
        sweeps = (_empty_sweep(t, h, every), _empty_sweep(t, h, every))

        def work(directions: Indices) -> None:
            for backwards in directions:
                _sort(alleles, bool(backwards), sweeps[backwards])

        divide_among_threads(work, 2, threads)
        return cls(panel, positions, sweeps)

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
        segments that of the haplotype with the least distance in places ranks first, or that with fewer mismatches in
        a panel that is searched whole; then that of the first in the panel. Raises ValueError if shapes disagree or
        fewer than k haplotypes remain.
        """
        excluded = check_states(observed, (len(self.cm), len(self.panel)), self.cm, k, exclude)
        refs, alts = packed_alleles(observed == 0), packed_alleles(observed == 1)
        out = np.empty((observed.shape[1], k), np.int32)

        def work(targets: Indices) -> None:
            if self.sweeps is None:
                fill_states(self.panel, refs, alts, self.cm, excluded, segments_per_site, targets, out)
            else:
                _fill(
                    *self.sweeps, self.panel, refs, alts, self.cm, excluded, neighbours, segments_per_site, targets, out
                )

        divide_among_threads(work, observed.shape[1], threads)
        return np.sort(out, axis=1)
