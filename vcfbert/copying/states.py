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

from typing import Final

import numpy as np
import numpy.typing as npt

from vcfbert.kernels import Alleles, Bits, Calls, Doubles, Indices, Numbers, compiled, divide_among_threads

Booleans = npt.NDArray[np.bool_]

SEGMENTS_PER_SITE: Final = 10  # longest IBS segments that score at a site


def segment_lengths(conflicts: Booleans, cm: Doubles) -> Doubles:
    """Length in cM [m, t] of the IBS segment around each site, 0 at a conflict, from ``conflicts`` [m, t].

    A segment reaches from conflict to conflict, or to the outermost sites. ``cm`` [t], ascending.
    """
    left = np.maximum.accumulate(np.where(conflicts, cm, cm[0]), axis=1)
    right = np.minimum.accumulate(np.where(conflicts, cm, cm[-1])[:, ::-1], axis=1)[:, ::-1]
    return np.where(conflicts, 0.0, right - left)


def best_states(conflicts: Booleans, cm: Doubles, order: Numbers, n_longest: int, k: int) -> Numbers:
    """The k haplotypes of the highest scores among those of ``order`` [m], best first, for one target.

    ``conflicts`` [m, t] of these haplotypes with the target. A haplotype's score is the sum of 1/rank over the sites
    where its segment is one of the ``n_longest``. Equal segments and equal scores rank as in ``order``.
    """
    if len(cm) == 0:
        return order[:k]
    lengths = segment_lengths(conflicts, cm)
    longest = np.argsort(-lengths, axis=0, kind="stable")[:n_longest]  # [n_longest, t]
    worth = (np.take_along_axis(lengths, longest, axis=0) > 0.0) / np.arange(1.0, len(longest) + 1.0)[:, None]
    scores = np.bincount(longest.T.ravel(), worth.T.ravel(), minlength=len(order))
    return order[np.argsort(-scores, kind="stable")[:k]]


@compiled
def fill_states(
    panel: Bits,
    refs: Bits,
    alts: Bits,
    cm: Doubles,
    exclude: Indices,
    n_longest: int,
    targets: Indices,
    out: Numbers,
) -> None:
    """Fills the rows of ``out`` [n, k] that ``targets`` names, best first, from all haplotypes of ``panel`` [h, words].

    ``refs`` and ``alts`` [n, words]: where each target is homozygous REF and homozygous ALT. ``exclude`` [n, e]:
    haplotypes that a target may not have; -1 for none. ``n_longest``: IBS segments that score at a site.
    """
    for target in targets:
        conflicts = unpacked((panel & refs[target]) | (~panel & alts[target]), len(cm))
        allowed = np.setdiff1d(np.arange(len(panel), dtype=np.int32), exclude[target])
        order = allowed[np.argsort(conflicts[allowed].sum(axis=1), kind="stable")]
        out[target] = best_states(conflicts[order], cm, order, n_longest, out.shape[1])


@compiled
def count_mismatches(panel: Bits, refs: Bits, alts: Bits, states: Numbers, out: Numbers) -> None:
    """Fills ``out`` [n, k] with the number of sites where each of ``states`` [n, k] conflicts with its target.

    The other arguments are those of ``fill_states``.
    """
    for target, own in enumerate(panel[states]):
        conflicts = (own & refs[target]) | (~own & alts[target])
        out[target] = np.bitwise_count(conflicts).sum(axis=1)


def packed_alleles(rows: Booleans | Alleles) -> Bits:
    """Bits uint64 [n, ceil(t / 64)] of ``rows`` [t, n], lowest first, padded with 0."""
    packed = np.packbits(rows, axis=0, bitorder="little")  # [ceil(t / 8), n]
    padded = np.zeros((rows.shape[1], -(-len(rows) // 64) * 8), np.uint8)
    padded[:, : len(packed)] = packed.T
    return padded.view("<u8").astype(np.uint64, copy=False)


def unpacked(bits: Bits, t: int) -> Booleans:
    """Alleles bool [n, t] of ``bits`` uint64 [n, ceil(t / 64)]."""
    octets = bits.astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(octets, axis=1, count=t, bitorder="little").astype(np.bool_)


def alleles_of(bits: Bits, t: int) -> Alleles:
    """Alleles uint8 [t, n] of ``bits`` uint64 [n, ceil(t / 64)], as ``packed_alleles`` takes them."""
    return np.ascontiguousarray(unpacked(bits, t).view(np.uint8).T)


def check_states(calls: Calls | Booleans, panel: Bits, cm: Doubles, k: int, exclude: Indices | None) -> Indices:
    """Returns ``exclude`` int64 [n, e], where None is [n, 0]. Raises ValueError if shapes disagree or
    fewer than k haplotypes remain.

    ``calls`` [t, n] of the targets; ``panel`` [h, ceil(t / 64)].
    """
    (t, n), h = calls.shape, len(panel)
    excluded = np.empty((n, 0), np.int64) if exclude is None else np.ascontiguousarray(exclude, dtype=np.int64)
    if panel.shape[1] != -(-t // 64) or len(cm) != t or len(excluded) != n:
        raise ValueError(f"{n} targets at {t} sites, but panel {panel.shape}, {len(cm)} cM, exclude {excluded.shape}")
    if excluded.size and (excluded.min() < -1 or excluded.max() >= h):
        raise ValueError(f"excluded haplotypes must lie in -1..{h - 1}")
    if not 1 <= k <= h - excluded.shape[1]:
        raise ValueError(f"k must lie in 1..{h - excluded.shape[1]}, is {k}")
    return excluded


def ranked_states(
    zero: Booleans,
    two: Booleans,
    panel: Bits,
    cm: Doubles,
    k: int,
    exclude: Indices | None = None,
    *,
    threads: int = 1,
    segments_per_site: int = SEGMENTS_PER_SITE,
) -> Numbers:
    """States int32 [n, k], best first; all else as in ``unphased_states``.

    ``zero`` and ``two`` bool [t, n]: where each target is homozygous REF and homozygous ALT.
    """
    n = zero.shape[1]
    excluded = check_states(zero, panel, cm, k, exclude)
    zeros, twos = packed_alleles(zero), packed_alleles(two)
    positions = np.ascontiguousarray(cm, dtype=np.float64)
    out = np.empty((n, k), np.int32)

    def work(targets: Indices) -> None:
        fill_states(panel, zeros, twos, positions, excluded, segments_per_site, targets, out)

    divide_among_threads(work, n, threads)
    return out


def unphased_states(
    genotypes: Calls,
    panel: Bits,
    cm: Doubles,
    k: int,
    exclude: Indices | None = None,
    *,
    threads: int = 1,
    segments_per_site: int = SEGMENTS_PER_SITE,
) -> Numbers:
    """States int32 [n, k] of n unphased samples: reference haplotypes in ascending order.

    ``genotypes`` int8 [t, n]: 0, 1 or 2 ALT alleles, -1 where missing. Only opposite homozygotes conflict. ``panel``
    uint64 [h, ceil(t / 64)], as of ``SiteBlocks.bits``. ``cm`` [t], ascending. ``exclude`` int64 [n, e]: haplotypes
    that a target may not have, such as its own; -1 for none. ``segments_per_site``: longest IBS segments that score at
    a site.

    A row depends on its own target alone. Of equal segments the haplotype with fewer mismatches ranks first, then the
    first of the panel. Raises ValueError if shapes disagree or fewer than k haplotypes remain.
    """
    zero, two = genotypes == 0, genotypes == 2
    ranked = ranked_states(zero, two, panel, cm, k, exclude, threads=threads, segments_per_site=segments_per_site)
    return np.sort(ranked, axis=1)
