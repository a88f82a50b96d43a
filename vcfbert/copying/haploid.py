"""The haploid Li-Stephens HMMs, compiled, with targets divided among threads.

``tests/helpers/li_stephens.py`` is the plain algorithm. Between two typed sites, reference haplotypes that carry the
same alleles are interchangeable. So copying probabilities are summed over the distinct rows of each *interval* between
typed sites (Howie et al. 2012, Nat. Genet. 44:955). The dosage of a site is the sum over the few rows that carry ALT.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from vcfbert.kernels import Alleles, Calls, Floats, Indices, Numbers, compiled, divide_among_threads

Rows = npt.NDArray[np.uint32]

LANES = 4  # partial sums that consecutive states are added to, so that no addition waits for the one before


@dataclass(frozen=True)
class Intervals:
    """The l sites of a window, cut after each of t typed sites, and the distinct rows of each interval.

    Interval s holds the sites after typed site s - 1, up to and including typed site s. Interval 0 begins at the
    window's first site and interval t ends at its last. Typed sites may lie outside the window.
    """

    bounds: Indices  # [t + 2], each interval's first site, and l
    number: Numbers  # [t + 1, r], the distinct row that each of r reference haplotypes has in an interval
    counts: Indices  # [t + 1], distinct rows of each interval
    start: Indices  # [l + 1]; the rows that carry ALT at site i are carriers[start[i]:start[i + 1]]
    carriers: Rows

    def of_haplotypes(self, row: Indices) -> Intervals:
        """The same intervals for haplotypes that each equal a ``row`` int64 [n] of those that were cut."""
        return replace(self, number=self.number[:, row])


def cut(alleles: Alleles, place: Indices) -> Intervals:
    """Cuts ``alleles`` uint8 [r, l] at typed sites ``place`` int64 [t], ascending, counted from the first of the l."""
    n_rows, n_sites = alleles.shape
    bounds = np.concatenate([[0], place + 1, [n_sites]]).clip(0, n_sites)
    number = np.zeros((len(place) + 1, n_rows), dtype=np.int32)
    counts = np.ones(len(place) + 1, dtype=np.int64)
    sites, carriers = [np.empty(0, np.int64)], [np.empty(0, np.uint32)]
    for s, (start, stop) in enumerate(pairwise(bounds.tolist())):
        if stop <= start:
            continue
        codes = np.packbits(alleles[:, start:stop], axis=1)
        keys = codes.view(np.dtype((np.void, codes.shape[1]))).ravel()
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        number[s], counts[s] = inverse, len(first)
        site, row = np.nonzero(alleles[first, start:stop].T)
        sites.append(start + site)
        carriers.append(row.astype(np.uint32))
    start_of = np.searchsorted(np.concatenate(sites), np.arange(n_sites + 1))
    return Intervals(bounds, number, counts, start_of, np.concatenate(carriers))


@dataclass(frozen=True)
class Heads:
    """Parameters of h Li-Stephens models (heads) and of their mixture."""

    stay: Floats  # [h, t], probability of no switch before each typed site
    mismatch: Floats  # [h, t], probability that the observed allele differs from the copied one
    mixture: Floats  # [h, l], mixture weights at the window's sites; columns sum to 1
    key_mixture: Floats  # [h, t], the same at the typed sites

    def alone(self, number: int) -> Heads:
        """Head ``number`` as the only one."""
        one = slice(number, number + 1)
        whole = (np.ones_like(self.mixture[one]), np.ones_like(self.key_mixture[one]))
        return Heads(self.stay[one], self.mismatch[one], *whole)


@dataclass(frozen=True)
class Copied:
    """ALT probabilities of n target haplotypes.

    ``dosage`` float32 [n, l]: at the window's sites. ``loo`` float32 [n, t]: leave-one-out probability at each typed
    site, as if it had not been typed; NaN where the call is missing.
    """

    dosage: Floats
    loo: Floats


def copy(
    observed: Calls,
    alleles: Alleles,
    states: Numbers,
    prior: Floats,
    heads: Heads,
    intervals: Intervals,
    fraction: Floats,
    *,
    threads: int = 1,
) -> Copied:
    """ALT probabilities of n target haplotypes by the mixture of ``heads``.

    ``observed`` int8 [t, n]: alleles at typed sites, -1 where missing. ``alleles`` uint8 [t, r] of the reference
    haplotypes. ``states`` int32 [n, k]: which of the r each target may copy. ``prior`` float32 [n, k]: probability of
    each state after a switch, rows of sum 1. ``fraction`` float32 [l]: the site's place between its two typed
    neighbours, in genetic distance from 0 (left) to 1 (right); 1 before the first typed site and 0 after the last.
    """
    t, n = observed.shape
    dosage = np.empty((n, len(fraction)), dtype=np.float32)
    mismatched = np.empty((len(heads.stay), n, t), dtype=np.float32)
    mixing = heads.mixture[:, None] * np.stack([1.0 - fraction, fraction])  # [h, 2, l], of an interval's two ends

    def work(targets: Indices) -> None:
        _copy(
            targets, observed, alleles, states.view(np.uint32), prior, heads.stay, heads.mismatch, mixing,
            intervals.number, intervals.bounds, intervals.counts, intervals.start, intervals.carriers,
            dosage, mismatched,
        )  # fmt: skip

    divide_among_threads(work, n, threads)
    return Copied(dosage, _loo(observed, mismatched, heads))


def _loo(observed: Calls, mismatched: Floats, heads: Heads) -> Floats:
    """Leave-one-out ALT probability float32 [n, t] at the typed sites.

    A site's own call enters its posterior as one emission factor, which is divided out. ``mismatched`` float32
    [h, n, t]: posterior of the states that do not carry the call.
    """
    miss = heads.mismatch[:, None]
    other = mismatched / miss
    other /= other + (1.0 - mismatched) / (1.0 - miss)
    mean = np.einsum("hnt,ht->nt", other, heads.key_mixture)
    seen = observed.T
    return np.where(seen < 0, np.nan, np.where(seen == 1, 1.0 - mean, mean)).astype(np.float32)


@compiled
def _copy(
    targets: Any, observed: Any, alleles: Any, states: Any, prior: Any, stay: Any, mismatch: Any, mixing: Any,
    number: Any, bounds: Any, counts: Any, start: Any, carriers: Any, dosage: Any, mismatched: Any,
) -> None:  # fmt: skip
    """Fills the rows of ``targets`` in ``dosage`` [n, l] and ``mismatched`` [h, n, t].

    Each loop over states changes one array in place and only reads the others; the compiler vectorises no other form.
    """
    heads, t = stay.shape
    k = states.shape[1]
    one, none = np.float32(1.0), np.float32(0.0)
    padded = -(-k // LANES) * LANES  # number of states, rounded up; the added ones have a prior of 0
    carried = np.full((t, padded), np.uint8(2))  # padding: an allele no target has, or messages would grow
    row_of = np.zeros((t + 1, padded), dtype=np.uint32)
    forward = np.empty((heads, t, padded), dtype=np.float32)
    pi, message = np.zeros(padded, np.float32), np.empty((heads, padded), np.float32)
    kept, jump = np.empty(heads, np.float32), np.empty(heads, np.float32)
    posterior = np.zeros((2, heads, padded), np.float32)  # at the two ends of an interval, used in turn
    sums = np.empty((LANES, 2 * np.max(counts)), np.float32)
    for target in targets:
        own_states = states[target]
        for l in range(t):
            for j in range(k):
                carried[l, j] = alleles[l, own_states[j]]
        for s in range(t + 1):
            for j in range(k):
                row_of[s, j] = number[s, own_states[j]]
        pi[:k] = prior[target]
        # Forward pass, kept for every typed site.
        for head in range(heads):
            # Rows stay unscaled. Their sum divides the next step's stay probability, which saves a pass.
            moving, total = message[head], one
            moving[:] = pi
            for l in range(t):
                known = observed[l, target] >= 0
                seen = np.uint8(observed[l, target])  # the type of ``carried``, or the loop is not vectorised
                hit = one - mismatch[head, l] if known else one
                miss = mismatch[head, l] if known else one
                stays, jumps = stay[head, l] / total, one - stay[head, l]
                total = none
                row, own = forward[head, l], carried[l]
                for j in range(padded):
                    value = (stays * moving[j] + jumps * pi[j]) * (hit if own[j] == seen else miss)
                    moving[j] = value
                    row[j] = value
                    total += value
        # Backward pass. Each interval's dosages are computed as soon as the posteriors at both of its ends are known.
        message[:] = one
        kept[:] = none
        jump[:] = one
        for s in range(t, -1, -1):
            left, right = posterior[(s + 1) % 2], posterior[s % 2]
            if s == t:
                right[:] = none
            if s == 0:
                left[:] = none
            for head in range(heads if s > 0 else 0):
                l = s - 1
                known = observed[l, target] >= 0
                seen = np.uint8(observed[l, target])
                hit = one - mismatch[head, l] if known else one
                miss = mismatch[head, l] if known else one
                stays, jumps = kept[head], jump[head]
                row, own, after, into = forward[head, l], carried[l], message[head], left[head]
                total, other, expected = none, none, none
                for j in range(padded):
                    moved = after[j] * stays + jumps
                    value = row[j] * moved
                    into[j] = value
                    total += value
                    moved *= hit if own[j] == seen else miss
                    after[j] = moved
                    expected += moved * pi[j]
                scale = one / total
                for j in range(padded):
                    into[j] *= scale
                for j in range(padded):  # this sum would keep the loop above from being vectorised
                    other += none if own[j] == seen else into[j]
                mismatched[head, target, l] = other
                kept[head], jump[head] = stay[head, l] / expected, one - stay[head, l]
            if bounds[s] == bounds[s + 1]:
                continue
            out = dosage[target]
            out[bounds[s] : bounds[s + 1]] = none
            n_rows, beside, place = counts[s], np.uint32(counts[s]), row_of[s]
            for head in range(heads):
                # Many states share a row. LANES partial sums per row keep an addition from waiting for the last.
                of_left, of_right = left[head], right[head]
                sums[:, : 2 * n_rows] = none
                for first in range(0, padded, LANES):
                    for lane in range(LANES):
                        j = first + lane
                        sums[lane, place[j]] += of_left[j]
                        sums[lane, beside + place[j]] += of_right[j]
                weight = sums[0]
                for lane in range(1, LANES):
                    for i in range(2 * n_rows):
                        weight[i] += sums[lane, i]
                for site in range(bounds[s], bounds[s + 1]):
                    on_left, on_right = none, none
                    for i in range(start[site], start[site + 1]):
                        on_left += weight[carriers[i]]
                        on_right += weight[beside + carriers[i]]
                    out[site] += mixing[head, 0, site] * on_left + mixing[head, 1, site] * on_right
