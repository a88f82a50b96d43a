"""The haploid Li-Stephens HMMs, compiled, with targets divided among threads.

``tests/helpers/li_stephens.py`` is the plain algorithm. Between two typed sites, reference haplotypes that carry the
same alleles are interchangeable. So copying probabilities are summed over the distinct rows of each *interval* between
typed sites (Howie et al. 2012, Nat. Genet. 44:955). The dosage of a site is the sum over the few rows that carry ALT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vcfbert.copying.lanes import LANES, add_column, add_row
from vcfbert.kernels import Alleles, Calls, Floats, Indices, Numbers, divide_among_threads, jitted

Rows = npt.NDArray[np.uint32]

# Probability of a switch between two typed sites at least. Where a map is flat, copying probabilities would otherwise
# reach 0 from the left for some states and from the right for all others.
MIN_SWITCH: Final = 1e-6
# Rows of an interval are dropped whose summed probabilities are below this, divided by the number of rows. All of them
# together change a dosage by less than a tenth of the last written digit.
MAX_DROPPED: Final = 1e-4
# Bytes of the forward pass that a thread keeps: a small part of the second-level cache.
FORWARD_BYTES: Final = 1 << 17


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
    forward_bytes: int = FORWARD_BYTES,
) -> Copied:
    """ALT probabilities of n target haplotypes by the mixture of ``heads``.

    ``observed`` int8 [t, n]: alleles at typed sites, -1 where missing. ``alleles`` uint8 [t, r] of the reference
    haplotypes. ``states`` int32 [n, k]: which of the r each target may copy. ``prior`` float32 [n, k]: probability of
    each state after a switch, rows of sum 1. ``fraction`` float32 [l]: the site's place between its two typed
    neighbours, in genetic distance from 0 (left) to 1 (right); 1 before the first typed site and 0 after the last.
    ``forward_bytes``: of forward messages that a thread keeps; never fewer than of sqrt(t) typed sites.

    Raises ValueError for more than LANES heads.
    """
    (t, n), h = observed.shape, len(heads.stay)
    if h > LANES:
        raise ValueError(f"at most {LANES} heads, not {h}")
    dosage = np.empty((n, len(fraction)), dtype=np.float32)
    mismatched = np.empty((h, n, t), dtype=np.float32)
    mixing = np.zeros((len(fraction), 2, LANES), dtype=np.float32)  # of an interval's two ends
    mixing[:, 0, :h], mixing[:, 1, :h] = (heads.mixture * (1.0 - fraction)).T, (heads.mixture * fraction).T
    stay = np.minimum(heads.stay, np.float32(1.0 - MIN_SWITCH))
    hmm = Hmm(np.ascontiguousarray(observed.T), alleles, states.view(np.uint32), prior, stay, heads.mismatch)
    decoder = Decoder(
        intervals.number, intervals.bounds, intervals.counts, *_sites_of_rows(intervals), mixing.reshape(-1, 2 * LANES)
    )

    span = max(math.isqrt(t), min(t, forward_bytes // (4 * h * states.shape[1])), 1)

    def work(targets: Indices) -> None:
        _copy(targets, hmm, decoder, span, dosage, mismatched)

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


def _sites_of_rows(intervals: Intervals) -> tuple[Indices, Indices, Numbers]:
    """The sites where each distinct row carries ALT, row by row, from the rows that carry ALT at each site.

    Returns each interval's first row int64 [t + 1], where each row's sites begin int64 [rows + 1], and the sites.
    """
    site = np.repeat(np.arange(len(intervals.start) - 1), np.diff(intervals.start))
    first_row = np.concatenate([[0], np.cumsum(intervals.counts)])
    interval = np.searchsorted(intervals.bounds[1:-1], site, side="right")
    row = first_row[interval] + intervals.carriers
    begin = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=int(first_row[-1])))])
    return first_row[:-1], begin, site[np.argsort(row, kind="stable")].astype(np.int32)


class Hmm(NamedTuple):
    """What the passes read."""

    observed: Calls  # [n, t]
    alleles: Alleles  # [t, r]
    states: Rows  # [n, k]
    prior: Floats  # [n, k]
    stay: Floats  # [h, t]
    mismatch: Floats  # [h, t]


class Decoder(NamedTuple):
    """What turns copying probabilities into dosages."""

    number: Numbers  # [t + 1, r], as in ``Intervals``
    bounds: Indices  # [t + 2]
    counts: Indices  # [t + 1]
    first_row: Indices  # [t + 1], each interval's first row, of the rows of all intervals
    begin: Indices  # [rows + 1]; row r carries ALT at sites[begin[r]:begin[r + 1]]
    sites: Numbers
    mixing: Floats  # [l, 2 LANES], mixture weights of the heads at the left and at the right end of an interval


@jitted
def _copy(targets: Indices, hmm: Hmm, decoder: Decoder, span: int, dosage: Floats, mismatched: Floats) -> None:
    """Fills the rows of ``targets`` in ``dosage`` [n, l] and ``mismatched`` [h, n, t].

    The forward pass keeps all messages of one ``span`` of typed sites, and of each other span only the one before it.
    The backward pass computes the others again. Functions that run for every typed site are given arrays, because
    numba counts references to all arrays of a tuple at each use.
    """
    observed, alleles, states, prior, stay, mismatch = hmm
    number, bounds, counts, first_row, begin, sites, mixing = decoder
    (heads, t), k = stay.shape, states.shape[1]
    padded = -(-k // 8) * 8  # states, rounded up to full vectors; the added ones have a prior of 0
    carried = np.full((t, padded), np.uint8(2))  # padding: an allele that no target has
    pi, one, none = np.zeros(padded, np.float32), np.float32(1.0), np.float32(0.0)
    forward, at_span = np.empty((heads, span, padded), np.float32), np.empty((heads, -(-t // span), padded), np.float32)
    backward = np.empty((heads, padded), np.float32)
    stays, jumps = np.empty(heads, np.float32), np.empty(heads, np.float32)
    posterior = np.empty((2, LANES, padded), np.float32)  # at the two ends of an interval, used in turn
    rows = np.empty((2 * np.max(counts), 2 * LANES), np.float32)
    at_sites = np.empty((np.max(bounds[1:] - bounds[:-1]), 2 * LANES), np.float32)
    for target in targets:
        own, calls, out = states[target], observed[target], dosage[target]
        _load(alleles, own, carried)
        pi[:k] = prior[target]
        for head in range(heads):
            _forward(calls, stay[head], mismatch[head], carried, pi, at_span[head], forward[head])
        backward[:], stays[:], jumps[:], posterior[:] = one, none, one, none
        for s in range(t, -1, -1):
            left, right = posterior[(s + 1) % 2], posterior[s % 2]
            if s == 0:
                left[:] = none
            for head in range(heads if s > 0 else 0):
                if s < t and s % span == 0:  # the typed site s - 1 is the last of its span
                    first = slice(s - span, s)
                    _forward_span(
                        calls[first], stay[head, first], mismatch[head, first], carried[first], pi,
                        at_span[head, s // span - 1], forward[head],
                    )  # fmt: skip
                stays[head], mismatched[head, target, s - 1] = _backward_step(
                    calls[s - 1], stays[head], jumps[head], mismatch[head, s - 1], carried[s - 1], pi,
                    forward[head, (s - 1) % span], backward[head], left[head],
                )  # fmt: skip
                stays[head], jumps[head] = stay[head, s - 1] / stays[head], one - stay[head, s - 1]
            start, stop = bounds[s], bounds[s + 1]
            if start < stop:
                own_rows = begin[first_row[s] : first_row[s] + counts[s] + 1]
                _sum_by_row(own, number[s], left, right, rows[: 2 * counts[s]])
                _sum_by_site(rows[: 2 * counts[s]], own_rows, sites, start, at_sites[: stop - start])
                _mix(at_sites, mixing[start:stop], out[start:stop])


@jitted
def _load(alleles: Alleles, states: Rows, carried: Alleles) -> None:
    """Fills the alleles [t, k] that a target's ``states`` [k] carry."""
    for l in range(len(alleles)):
        for j in range(len(states)):
            carried[l, j] = alleles[l, states[j]]


@jitted
def _forward(
    calls: Calls, stay: Floats, mismatch: Floats, carried: Alleles, pi: Floats, at_span: Floats, forward: Floats
) -> None:
    """Fills the message [k] before each span, with sum 1, and all messages [span, k] of the last span."""
    span = len(forward)
    at_span[0] = pi
    for number in range(len(at_span)):
        sites = slice(number * span, (number + 1) * span)
        total = _forward_span(calls[sites], stay[sites], mismatch[sites], carried[sites], pi, at_span[number], forward)
        if number + 1 < len(at_span):
            at_span[number + 1] = forward[span - 1] / total


@jitted
def _forward_span(
    calls: Calls, stay: Floats, mismatch: Floats, carried: Alleles, pi: Floats, message: Floats, forward: Floats
) -> np.float32:
    """Fills the messages at the sites of a span, from the ``message`` [k] before it, which sums to 1.

    Messages stay unscaled. Their sum divides the next step's stay probability, which saves a pass. Returns the last.
    """
    one = np.float32(1.0)
    total = one
    for l in range(len(calls)):
        hit, miss = (one, one) if calls[l] < 0 else (one - mismatch[l], mismatch[l])
        before = forward[l - 1] if l > 0 else message
        stays, jumps = stay[l] / total, one - stay[l]
        total = _forward_step(before, stays, jumps, pi, carried[l], np.uint8(calls[l]), hit, miss, forward[l])
    return total


@jitted
def _forward_step(
    before: Floats, stays: np.float32, jumps: np.float32, pi: Floats, own: Alleles, seen: np.uint8, hit: np.float32,
    miss: np.float32, message: Floats,
) -> np.float32:  # fmt: skip
    """Fills the next ``message`` [k] and returns its sum. LLVM vectorises the loop only in a function of its own."""
    total = np.float32(0.0)
    for j in range(len(pi)):
        value = (stays * before[j] + jumps * pi[j]) * (hit if own[j] == seen else miss)
        message[j] = value
        total += value
    return total


@jitted
def _backward_step(
    call: int, stays: np.float32, jumps: np.float32, miss: np.float32, own: Alleles, pi: Floats, forward: Floats,
    backward: Floats, product: Floats,
) -> tuple[np.float32, np.float32]:  # fmt: skip
    """Fills the copying probabilities ``product`` [k] at a typed site, and takes the ``backward`` message [k] over it.

    Returns the message's sum, weighted by the prior, and the probability of the states that do not carry the call. Each
    loop over states changes one array and only reads the others; the compiler vectorises no other form.
    """
    one, none = np.float32(1.0), np.float32(0.0)
    seen, hit = np.uint8(call), one - miss
    if call < 0:
        hit, miss = one, one
    total, other, expected = none, none, none
    for j in range(len(pi)):
        value = forward[j] * (backward[j] * stays + jumps)
        product[j] = value
        total += value
    for j in range(len(pi)):
        moved = (backward[j] * stays + jumps) * (hit if own[j] == seen else miss)
        backward[j] = moved
        expected += moved * pi[j]
    scale = one / total
    for j in range(len(pi)):
        product[j] *= scale
    for j in range(len(pi)):
        other += none if own[j] == seen else product[j]
    return expected, other


@jitted
def _sum_by_row(states: Rows, number: Numbers, left: Floats, right: Floats, rows: Floats) -> None:
    """Fills sums [rows of the interval x 2, 2 LANES] of the probabilities [LANES, k] at the interval's two ends.

    Many states share a row. Even and odd states have sums of their own, so an addition seldom waits for the last.
    """
    rows[:] = np.float32(0.0)
    for j in range(len(states)):
        row = 2 * number[states[j]] + j % 2
        add_column(rows, row, 0, left, j)
        add_column(rows, row, LANES, right, j)
    for row in range(len(rows) // 2):
        add_row(rows, 2 * row, rows, 2 * row + 1)


@jitted
def _sum_by_site(rows: Floats, begin: Indices, sites: Numbers, start: int, at_sites: Floats) -> None:
    """Fills sums [sites of the interval, 2 LANES] of the even ``rows`` over those that carry ALT at a site."""
    at_sites[:] = np.float32(0.0)
    least = np.float32(MAX_DROPPED) / np.float32(len(begin))
    for row in range(len(begin) - 1):
        largest = np.float32(0.0)
        for lane in range(2 * LANES):
            largest = max(largest, rows[2 * row, lane])
        if largest >= least:
            for i in range(begin[row], begin[row + 1]):
                add_row(at_sites, sites[i] - start, rows, 2 * row)


@jitted
def _mix(at_sites: Floats, mixing: Floats, dosage: Floats) -> None:
    """Fills the dosages of an interval's sites with the mixture of the heads and of the interval's two ends."""
    for site in range(len(dosage)):
        total = np.float32(0.0)
        for lane in range(2 * LANES):
            total += mixing[site, lane] * at_sites[site, lane]
        dosage[site] = total
