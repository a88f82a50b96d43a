"""Selects the K reference haplotypes that a target may copy: those of the longest IBS segments around each typed site.

An IBS (identity by state) segment is a run of typed sites without a conflict between target and haplotype. At every
typed site the haplotypes with the longest segments around it, in cM, score 1/rank. The K haplotypes with the highest
sums are the target's states. A haplotype that matches the target over one long segment scores there, however it differs
elsewhere; a distance over the whole retrieval window would not see it. Unphased genotypes have segments too: those
break where target and haplotype are opposite homozygotes.

Alleles are compared 64 sites at a time. Two bit masks, ``ref`` and ``alt``, mark where a target is homozygous REF and
homozygous ALT. A haplotype with allele bits A conflicts with the target at ``A & ref | ~A & alt``. A phased allele is
coded as homozygous.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

from vcfbert.kernels import Alleles, Calls, Doubles, Indices, Numbers, divide_among_threads, jitted_exactly

Bits = npt.NDArray[np.uint64]

SEGMENTS_PER_SITE: Final = 10  # longest IBS segments that score at a site


def _set_bits_code(_: Any, word: Any) -> Any:
    return types.uint64(types.uint64), lambda _, builder, __, words: builder.ctpop(words[0])


def _lowest_bit_code(_: Any, word: Any) -> Any:
    not_zero = ir.Constant(ir.IntType(1), 1)
    return types.int64(types.uint64), lambda _, builder, __, words: builder.cttz(words[0], not_zero)


# The number of bits set in a uint64, and the place of the lowest bit in one that is not 0: one instruction each.
set_bits: Any = intrinsic(_set_bits_code)
_lowest_bit: Any = intrinsic(_lowest_bit_code)


@jitted_exactly
def _conflicts(panel: Bits, zero: Bits, two: Bits, haplotype: int, word: int) -> np.uint64:
    """Bits of the sites of a word where a haplotype conflicts with the target."""
    carried = panel[haplotype, word]
    conflicts: np.uint64 = (carried & zero[word]) | (~carried & two[word])
    return conflicts


@jitted_exactly
def _by_conflicts(panel: Bits, zero: Bits, two: Bits, excluded: npt.NDArray[np.bool_]) -> Numbers:
    """The haplotypes that are not ``excluded`` bool [h], by number of conflicts, ties in the panel's order."""
    h, words = panel.shape
    counts = np.empty(h, np.int64)
    first = np.zeros(64 * words + 2, np.int64)
    for j in range(h):
        count = np.uint64(0)
        for word in range(words):
            count += set_bits(_conflicts(panel, zero, two, j, word))
        counts[j] = count
        first[counts[j] + 1] += not excluded[j]
    first = np.cumsum(first)
    order = np.empty(first[-1], np.int32)
    for j in range(h):
        if not excluded[j]:
            order[first[counts[j]]] = j
            first[counts[j]] += 1
    return order


@jitted_exactly
def _enter(start: int, stop: int, length: float, place: int, longest: Doubles, holder: Numbers) -> None:
    """Enters a segment over sites start to stop - 1 in the lists of the sites where it is among the longest.

    ``longest`` [t, n] holds lengths in cM, longest first, and ``holder`` [t, n] the haplotypes. Of equal lengths the
    one entered first stays ahead.
    """
    n_longest = longest.shape[1]
    for l in range(start, stop):
        if length > longest[l, n_longest - 1]:
            rank = n_longest - 1
            while rank > 0 and length > longest[l, rank - 1]:
                longest[l, rank] = longest[l, rank - 1]
                holder[l, rank] = holder[l, rank - 1]
                rank -= 1
            longest[l, rank] = length
            holder[l, rank] = place


@jitted_exactly
def _scores(panel: Bits, zero: Bits, two: Bits, cm: Doubles, order: Numbers, n_longest: int) -> Doubles:
    """The score of each haplotype of ``order``: the sum of 1/rank over sites."""
    t, words = len(cm), panel.shape[1]
    if t == 0:
        return np.zeros(len(order))
    longest = np.zeros((t, n_longest))
    holder = np.full((t, n_longest), -1, np.int32)
    least = 0.0  # cM: no shorter segment is among the longest at any site
    for place in range(len(order)):
        if place % 16 == 0:
            least = longest[:, n_longest - 1].min()
        start, left = 0, cm[0]
        for word in range(words):
            conflicts = _conflicts(panel, zero, two, order[place], word)
            while conflicts != 0:
                site = 64 * word + _lowest_bit(conflicts)
                conflicts &= conflicts - np.uint64(1)
                if site > start and cm[site] - left > least:
                    _enter(start, site, cm[site] - left, place, longest, holder)
                start, left = site + 1, cm[site]
        if start < t:
            _enter(start, t, cm[t - 1] - left, place, longest, holder)
    scores = np.zeros(len(order))
    for l in range(t):
        for rank in range(n_longest):
            if holder[l, rank] >= 0:
                scores[holder[l, rank]] += 1.0 / (rank + 1)
    return scores


@jitted_exactly
def _ranked(scores: Doubles, order: Numbers, k: int) -> Numbers:
    """The k haplotypes of the highest scores, best first; ties as in ``order``."""
    scored = np.flatnonzero(scores > 0.0)
    best = scored[np.argsort(-scores[scored], kind="mergesort")][:k]
    out = np.empty(k, np.int32)
    for i in range(len(best)):
        out[i] = order[best[i]]
    place = 0
    for i in range(len(best), k):
        while scores[place] > 0.0:
            place += 1
        out[i] = order[place]
        place += 1
    return out


@jitted_exactly
def best_states(panel: Bits, zero: Bits, two: Bits, cm: Doubles, order: Numbers, n_longest: int, k: int) -> Numbers:
    """The k haplotypes of the highest scores among those of ``order``, best first, for one target.

    ``panel`` [h, words]. ``zero`` and ``two`` [words]: where the target is homozygous REF and homozygous ALT.
    ``n_longest``: IBS segments that score at a site. Equal segments and equal scores rank as in ``order``.
    """
    return _ranked(_scores(panel, zero, two, cm, order, n_longest), order, k)


@jitted_exactly
def fill_states(
    panel: Bits,
    zero: Bits,
    two: Bits,
    cm: Doubles,
    exclude: Indices,
    n_longest: int,
    targets: Indices,
    out: Numbers,
) -> None:
    """Fills the rows of ``out`` [n, k] that ``targets`` names, best first, from all haplotypes of ``panel``."""
    excluded = np.zeros(len(panel), np.bool_)
    for target in targets:
        excluded[:] = False
        for haplotype in exclude[target]:
            if haplotype >= 0:
                excluded[haplotype] = True
        order = _by_conflicts(panel, zero[target], two[target], excluded)
        out[target] = best_states(panel, zero[target], two[target], cm, order, n_longest, out.shape[1])


def packed_alleles(rows: npt.NDArray[np.bool_] | Alleles) -> Bits:
    """Bits uint64 [n, ceil(t / 64)] of ``rows`` [t, n], lowest first, padded with 0."""
    packed = np.packbits(rows, axis=0, bitorder="little")  # [ceil(t / 8), n]
    padded = np.zeros((rows.shape[1], -(-len(rows) // 64) * 8), np.uint8)
    padded[:, : len(packed)] = packed.T
    return padded.view("<u8").astype(np.uint64, copy=False)


def check_states(
    calls: Calls | npt.NDArray[np.bool_], alleles_shape: tuple[int, int], cm: Doubles, k: int, exclude: Indices | None
) -> Indices:
    """Returns ``exclude`` int64 [n, e], where None is [n, 0]. Raises ValueError as ``phased_states``.

    ``calls`` [t, n] of the targets; ``alleles_shape``: (t, h) of the panel.
    """
    (t, n), h = calls.shape, alleles_shape[1]
    excluded = np.empty((n, 0), np.int64) if exclude is None else np.ascontiguousarray(exclude, dtype=np.int64)
    if alleles_shape[0] != t or len(cm) != t or len(excluded) != n:
        raise ValueError(f"{n} targets at {t} sites, but panel {alleles_shape}, {len(cm)} cM, exclude {excluded.shape}")
    if excluded.size and (excluded.min() < -1 or excluded.max() >= h):
        raise ValueError(f"excluded haplotypes must lie in -1..{h - 1}")
    if not 1 <= k <= h - excluded.shape[1]:
        raise ValueError(f"k must lie in 1..{h - excluded.shape[1]}, is {k}")
    return excluded


def ranked_states(
    zero: npt.NDArray[np.bool_],
    two: npt.NDArray[np.bool_],
    alleles: Alleles,
    cm: Doubles,
    k: int,
    exclude: Indices | None = None,
    *,
    threads: int = 1,
    segments_per_site: int = SEGMENTS_PER_SITE,
) -> Numbers:
    """States int32 [n, k], best first; all else as in ``phased_states``.

    ``zero`` and ``two`` bool [t, n]: where each target is homozygous REF and homozygous ALT.
    """
    n = zero.shape[1]
    excluded = check_states(zero, alleles.shape, cm, k, exclude)
    panel, zeros, twos = packed_alleles(alleles), packed_alleles(zero), packed_alleles(two)
    positions = np.ascontiguousarray(cm, dtype=np.float64)
    out = np.empty((n, k), np.int32)

    def work(targets: Indices) -> None:
        fill_states(panel, zeros, twos, positions, excluded, segments_per_site, targets, out)

    divide_among_threads(work, n, threads)
    return out


def phased_states(
    observed: Calls,
    alleles: Alleles,
    cm: Doubles,
    k: int,
    exclude: Indices | None = None,
    *,
    threads: int = 1,
    segments_per_site: int = SEGMENTS_PER_SITE,
) -> Numbers:
    """States int32 [n, k] of n target haplotypes: reference haplotypes in ascending order.

    ``observed`` int8 [t, n]: alleles at typed sites; -1 where missing, which conflicts with no allele. ``alleles``
    uint8 [t, h] of the panel. ``cm`` [t], ascending. ``exclude`` int64 [n, e]: haplotypes that a target may not have,
    such as its own; -1 for none. ``segments_per_site``: longest IBS segments that score at a site.

    A row depends on its own target alone. Of equal segments the haplotype with fewer mismatches ranks first, then the
    first of the panel. Raises ValueError if shapes disagree or fewer than k haplotypes remain.
    """
    zero, two = observed == 0, observed == 1
    ranked = ranked_states(zero, two, alleles, cm, k, exclude, threads=threads, segments_per_site=segments_per_site)
    return np.sort(ranked, axis=1)


def unphased_states(
    genotypes: Calls,
    alleles: Alleles,
    cm: Doubles,
    k: int,
    exclude: Indices | None = None,
    *,
    threads: int = 1,
    segments_per_site: int = SEGMENTS_PER_SITE,
) -> Numbers:
    """States int32 [n, k] of n unphased samples, in ascending order; all else as in ``phased_states``.

    ``genotypes`` int8 [t, n]: 0, 1 or 2 ALT alleles, -1 where missing. Only opposite homozygotes conflict.
    """
    zero, two = genotypes == 0, genotypes == 2
    ranked = ranked_states(zero, two, alleles, cm, k, exclude, threads=threads, segments_per_site=segments_per_site)
    return np.sort(ranked, axis=1)
