"""The haploid copying model on CPU: the recurrences of ``model/li_stephens.py`` compiled, targets shared among threads.

Between two typed sites reference haplotypes that carry the same alleles are alike: the copying probabilities of a
*segment* are added up by its distinct rows (Howie et al. 2012, Nat. Genet. 44:955), and its dosages are one small
matrix product for all targets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from vcfbert.copying.kernels import Alleles, Calls, Floats, Indices, Numbers, compiled, share_among_threads

# Sums that states are added to in turn.
LANES = 4


@dataclass(frozen=True)
class Segments:
    """A stretch of sites cut at t typed ones: segment s holds those after typed site s - 1 up to typed site s, itself
    included; segment 0 begins where the stretch does, segment t ends there. Typed sites may lie outside it.

    ``bounds`` int64 [t + 2]: a segment's first site; ``rows``: its distinct rows, uint8 [u_s, l_s], none if it is
    empty; ``number`` int32 [t + 1, r]: the row that each reference haplotype has there; ``offset`` int64 [t + 2]: where
    a segment's rows begin among those of all.
    """

    bounds: Indices
    rows: list[Floats]
    number: Numbers
    offset: Indices

    def of_haplotypes(self, row: Indices) -> Segments:
        """The same segments for haplotypes, each a ``row`` of those that were cut."""
        return replace(self, number=self.number[:, row])


def cut(alleles: Alleles, place: Indices) -> Segments:
    """Segments of ``alleles`` uint8 [r, l] at typed sites ``place`` int64 [t], ascending, from the first of the l."""
    n_rows, n_sites = alleles.shape
    bounds = np.concatenate([[0], place + 1, [n_sites]]).clip(0, n_sites)
    number = np.zeros((len(place) + 1, n_rows), dtype=np.int32)
    rows: list[Floats] = []
    for s, (start, stop) in enumerate(pairwise(bounds.tolist())):
        if stop <= start:
            rows.append(np.zeros((1, 0), dtype=np.float32))
            continue
        codes = np.packbits(alleles[:, start:stop], axis=1)
        keys = codes.view(np.dtype((np.void, codes.shape[1]))).ravel()
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        number[s] = inverse
        rows.append(alleles[first, start:stop].astype(np.float32))
    return Segments(bounds, rows, number, np.concatenate([[0], np.cumsum([len(r) for r in rows])]))


def dosages(
    observed: Calls,
    alleles: Alleles,
    states: Numbers,
    prior: Floats,
    stay: Floats,
    mismatch: Floats,
    segments: Segments,
    fraction: Floats,
    *,
    threads: int = 1,
) -> Floats:
    """ALT probability [n, l] of each target haplotype at the segments' sites.

    ``observed`` int8 [t, n], -1 where missing; ``alleles`` uint8 [t, r] of the reference; ``states`` int32 [n, k]:
    which of the r each target copies; ``prior`` [n, k], rows of sum 1; ``stay``, ``mismatch`` [t]; ``fraction`` [l]:
    how far, in cM, a site lies on the way between its typed neighbours.
    """
    n = observed.shape[1]
    left = np.zeros((n, segments.offset[-1]), dtype=np.float32)
    right = np.zeros_like(left)

    def work(targets: Indices) -> None:
        _add_posteriors(
            targets, observed, alleles, states, prior, stay, mismatch, segments.number, segments.offset, left, right
        )

    share_among_threads(work, n, threads)
    out = np.empty((n, len(fraction)), dtype=np.float32)
    for s, rows in enumerate(segments.rows):
        sites = slice(segments.bounds[s], segments.bounds[s + 1])
        if sites.start < sites.stop:
            part = slice(segments.offset[s], segments.offset[s + 1])
            f = fraction[sites]
            after = right[:, part] @ rows
            out[:, sites] = after + (left[:, part] @ rows - after) * (1.0 - f)
    return out


@compiled
def _add_posteriors(
    targets: Any, observed: Any, alleles: Any, states: Any, prior: Any, stay: Any, mismatch: Any, number: Any,
    offset: Any, left: Any, right: Any,
) -> None:  # fmt: skip
    """Adds each target's copying posteriors to the rows of the segments left and right of every typed site."""
    t = len(observed)
    k = states.shape[1]
    one, none = np.float32(1.0), np.float32(0.0)
    padded = -(-k // LANES) * LANES  # of states, the last ones with a prior of 0
    carried = np.full((t, padded), np.uint8(2))  # of padding an allele that no target has, or its messages would grow
    forward = np.empty((t, padded), dtype=np.float32)
    pi, after, posterior = np.zeros(padded, np.float32), np.empty(padded, np.float32), np.empty(padded, np.float32)
    copied = np.zeros(padded, dtype=np.int32)
    widest = np.max(np.diff(offset))
    before, behind = np.empty((LANES, widest), np.float32), np.empty((LANES, widest), np.float32)
    for target in targets:
        for l in range(t):
            for j in range(k):
                carried[l, j] = alleles[l, states[target, j]]
        pi[:k] = prior[target]
        copied[:k] = states[target]
        # Rows stay unscaled: what they sum to goes into the next step, which saves a pass.
        last, total = pi, one
        for l in range(t):
            known = observed[l, target] >= 0
            seen = np.uint8(observed[l, target])  # as the type of ``carried``, or the loop does not vectorise
            hit = one - mismatch[l] if known else one
            miss = mismatch[l] if known else one
            kept, jump = stay[l] / total, one - stay[l]
            total = none
            row, own = forward[l], carried[l]
            for j in range(padded):
                value = (kept * last[j] + jump * pi[j]) * (hit if own[j] == seen else miss)
                row[j] = value
                total += value
            last = row
        after[:] = one
        kept, jump = none, one
        for l in range(t - 1, -1, -1):
            known = observed[l, target] >= 0
            seen = np.uint8(observed[l, target])  # as the type of ``carried``, or the loop does not vectorise
            hit = one - mismatch[l] if known else one
            miss = mismatch[l] if known else one
            row, own = forward[l], carried[l]
            total, expected = none, none
            for j in range(padded):
                message = after[j] * kept + jump
                value = row[j] * message
                posterior[j] = value
                total += value
                message *= hit if own[j] == seen else miss
                after[j] = message
                expected += message * pi[j]
            # Most states share few rows: sums of their own for each of LANES states in turn, or every addition would
            # wait for the one before it.
            low, high, end = offset[l], offset[l + 1], offset[l + 2]
            before[:, : high - low] = none
            behind[:, : end - high] = none
            for first in range(0, padded, LANES):
                for lane in range(LANES):
                    place = copied[first + lane]
                    before[lane, number[l, place]] += posterior[first + lane]
                    behind[lane, number[l + 1, place]] += posterior[first + lane]
            scale = one / total
            for lane in range(LANES):
                for row_of in range(high - low):
                    right[target, low + row_of] += before[lane, row_of] * scale
                for row_of in range(end - high):
                    left[target, high + row_of] += behind[lane, row_of] * scale
            kept, jump = stay[l] / expected, one - stay[l]
