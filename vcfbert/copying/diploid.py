"""Samples phasings of unphased genotypes from the diploid Li-Stephens model, on CPU.

The forward pass over pairs of copied haplotypes is exact (``pair_hmm.py``). The two copied paths are then sampled
backwards from their exact joint posterior, and the alleles given the paths. The mean of the haploid model's dosages
over phasings is a Rao-Blackwellised estimate of the diploid model's dosage. The haploid model may copy from more
haplotypes than the model of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from vcfbert.constants import MISSING
from vcfbert.copying.pair_hmm import Seeds, UnphasedTargets, sample_pairs
from vcfbert.kernels import Alleles, Calls, Doubles, Floats, Indices, divide_among_threads

HAPLOTYPES_PER_CLASS: Final = 12


@dataclass(frozen=True)
class Limits:
    """Limits of a block and of the matrices kept at the blocks' starts.

    The work at every site grows with the number of classes. The work per block grows with the square of the
    haplotypes and is shared by the block's sites.

    ``max_bytes``: of the matrices, per thread. If the chromosome needs more, only the matrices at the starts of
    sqrt(blocks) spans of blocks are kept, and the others are computed again.
    """

    min_classes: int = 8
    max_classes: int = 64
    max_sites: int = 48
    max_bytes: int = 200_000_000


LIMITS: Final = Limits()


def sample_phasings(
    genotypes: Calls,
    panel_alleles: Alleles,
    states: npt.NDArray[np.integer],
    prior: Floats | None,
    stay: npt.NDArray[np.floating],
    mismatch: npt.NDArray[np.floating],
    *,
    n_phasings: int,
    seeds: Seeds,
    threads: int = 1,
    limits: Limits = LIMITS,
) -> Calls:
    """Phased alleles int8 [n_phasings, t, n, 2], sampled from their exact posterior under the diploid model.

    ``genotypes`` int8 [t, n]: 0, 1 or 2 ALT alleles; -1 where missing, whose two alleles are then -1; HALF_REF or
    HALF_ALT, whose known allele is placed on one haplotype and whose other allele is -1. ``panel_alleles`` uint8
    [t, h]. ``states`` [n, k]: the haplotypes that each target may copy. ``prior`` [n, k]: probability of each haplotype
    after a switch, rows of sum 1; None is uniform. ``stay`` [t]: probability of no switch before a site; the first is
    ignored. ``mismatch`` [t], in (0, 0.5]: probability that the observed allele differs from the copied one. ``seeds``
    uint64 [n], one per target.

    A target's phasings depend on its own seed and data alone, and its first phasings do not depend on ``n_phasings``.
    A block has a matrix of k^2 / 2 floats. If the matrices exceed ``limits.max_bytes``, a thread keeps 2 sqrt(blocks)
    of them and runs the forward pass twice. Raises ValueError if shapes disagree or a mismatch is out of range.
    """
    out = np.empty((genotypes.shape[1], n_phasings, len(genotypes), 2), np.int8)
    fill_phasings(genotypes, panel_alleles, states, prior, stay, mismatch, seeds, threads, limits, out)
    phasings: Calls = np.ascontiguousarray(out.transpose(1, 2, 0, 3))
    return phasings


def fill_phasings(
    genotypes: Calls,
    panel_alleles: Alleles,
    states: npt.NDArray[np.integer],
    prior: Floats | None,
    stay: npt.NDArray[np.floating],
    mismatch: npt.NDArray[np.floating],
    seeds: Seeds,
    threads: int,
    limits: Limits,
    out: Calls,
) -> Doubles:
    """Fills ``out`` int8 [n, n_phasings, t, 2] and returns each target's log likelihood [n].

    The other arguments are those of ``sample_phasings``.
    """
    t, n = genotypes.shape
    k = states.shape[1]
    shapes = [len(panel_alleles), len(stay), len(mismatch), len(states), len(seeds)]
    if shapes != [t, t, t, n, n] or (prior is not None and prior.shape != (n, k)):
        raise ValueError(f"arrays of {t} sites, {n} targets and {k} states expected")
    if not ((mismatch > 0) & (mismatch <= 0.5)).all():
        raise ValueError("mismatch must lie in (0, 0.5]")
    likelihood = np.zeros(n)
    if t == 0:
        return likelihood
    given = UnphasedTargets(
        np.ascontiguousarray(genotypes, np.int8),
        np.ascontiguousarray(panel_alleles, np.uint8),
        np.ascontiguousarray(states, np.int32),
        np.full((n, k), 1.0 / k, np.float32) if prior is None else np.ascontiguousarray(prior, np.float32),
        # The first site's state comes from the prior alone, and no state follows the last site.
        np.concatenate([[0.0], np.asarray(stay, np.float64)[1:], [0.0]]),
        np.ascontiguousarray(mismatch, np.float64),
        np.ascontiguousarray(seeds, np.uint64),
    )
    max_classes = int(np.clip(k // HAPLOTYPES_PER_CLASS, limits.min_classes, limits.max_classes))

    def work(targets: Indices) -> None:
        sample_pairs(given, targets, max_classes, limits.max_sites, limits.max_bytes, likelihood, out)

    divide_among_threads(work, n, threads)
    return likelihood


def heterozygous_calls(calls: Calls) -> npt.NDArray[np.bool_]:
    """bool [...]: whether both alleles of each of ``calls`` [..., 2] are known and differ."""
    return np.asarray((calls[..., 0] != calls[..., 1]) & (calls >= 0).all(axis=-1))


def consensus(phasings: Calls) -> Calls:
    """One phase int8 [t, n, 2] from phasings [n_phasings, t, n, 2] of the same genotypes, by majority.

    Each heterozygous call gets the order relative to the heterozygous call before it that most phasings give it. Each
    half call is placed in the same way, but no later call is placed relative to it. The first phasing decides ties.
    """
    heterozygous = heterozygous_calls(phasings[0])  # [t, n]
    t, n = heterozygous.shape
    place = np.where(heterozygous, np.arange(t)[:, None], -1)
    before = np.maximum.accumulate(np.concatenate([np.full((1, n), -1), place]), axis=0)[:t]
    # The greater allele: ALT of a heterozygous call, the known one of a half call.
    alt_first = phasings[:, :, :, 0] > phasings[:, :, :, 1]  # [n_phasings, t, n]
    previous = np.take_along_axis(alt_first, np.maximum(before, 0)[None], axis=1)
    flipped = alt_first != previous  # relative to the heterozygous call before
    votes = 2 * flipped.sum(axis=0)
    flip = np.where(votes == len(phasings), flipped[0], votes > len(phasings))
    # The first heterozygous call is as in the first phasing; every flip reverses all calls from there on.
    flip = np.where(before < 0, alt_first[0], flip) & heterozygous
    alt_on_first = np.logical_xor.accumulate(flip, axis=0)
    out: Calls = phasings[0].copy()
    out[heterozygous, 0] = alt_on_first[heterozygous]
    out[heterozygous, 1] = ~alt_on_first[heterozygous]
    half = (phasings[0] == MISSING).sum(axis=-1) == 1
    if half.any():
        known_first = alt_first ^ (previous ^ np.take_along_axis(alt_on_first, np.maximum(before, 0), axis=0))
        votes = 2 * known_first.sum(axis=0)
        first = np.where(votes == len(phasings), known_first[0], votes > len(phasings))
        first = np.where(before < 0, alt_first[0], first)
        out[half] = np.where(first[half][:, None] == [True, False], out[half].max(axis=-1, keepdims=True), MISSING)
    return out
