"""Samples phasings of unphased genotypes from the diploid Li-Stephens model, on CPU.

The forward pass over pairs of copied haplotypes is exact (``pair_forward.py``). The two copied paths are then sampled
backwards from their exact joint posterior, and the alleles given the paths (``pair_sampling.py``). The mean of the
haploid model's dosages over phasings is a Rao-Blackwellised estimate of the diploid model's dosage. The haploid model
may copy from more haplotypes than the model of pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from vcfbert.constants import MISSING
from vcfbert.copying.blocks import Seeds, Target, blocks
from vcfbert.copying.pair_forward import Scratch, forward
from vcfbert.copying.pair_sampling import backward, mixed
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
    If k^2 floats per block exceed ``limits.max_bytes``, each of ``threads`` keeps the square root of the number of
    blocks in matrices and runs the forward pass twice. Raises ValueError if shapes disagree or a mismatch is out of
    range.
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
    given = [len(panel_alleles), len(stay), len(mismatch), len(states), len(seeds)]
    if given != [t, t, t, n, n] or (prior is not None and prior.shape != (n, k)):
        raise ValueError(f"arrays of {t} sites, {n} targets and {k} states expected")
    if not ((mismatch > 0) & (mismatch <= 0.5)).all():
        raise ValueError("mismatch must lie in (0, 0.5]")
    likelihood = np.zeros(n)
    if t == 0:
        return likelihood
    # 0 at both ends: the first site's state comes from the prior alone, and no state follows the last site.
    inner = np.concatenate([[0.0], np.asarray(stay, np.float64)[1:], [0.0]])
    errors = np.array(mismatch, np.float64)

    def work(targets: Indices) -> None:
        worker = _Worker(k, limits)
        for target in targets:
            weights = np.full(k, 1.0 / k, np.float32) if prior is None else np.array(prior[target], np.float32)
            alleles = np.take(panel_alleles, states[target], axis=1).astype(np.uint8, copy=False)
            calls = np.array(genotypes[:, target], np.int8)
            likelihood[target] = worker.phase(alleles, calls, inner, errors, weights, seeds[target], out[target])

    divide_among_threads(work, n, threads)
    return likelihood


class _Worker:
    """One thread's buffers. All targets reuse them, because allocating them takes longer than the passes."""

    def __init__(self, k: int, limits: Limits) -> None:
        self.limits = limits
        self.max_classes = int(np.clip(k // HAPLOTYPES_PER_CLASS, limits.min_classes, limits.max_classes))
        most = self.max_classes
        self.matrix_bytes = 4 * k * k
        self.matrices = np.empty((2, k, k), np.float32)  # A at the starts of a span's blocks
        self.starts = np.empty((1, k, k), np.float32)  # A at the spans' starts
        self.scratch = Scratch(*(np.empty((most, width), np.float32) for width in (k, k, most, most)))
        self.unswitched = np.empty((0, k), np.float32)
        self.switched = np.empty((0, self.max_classes), np.float32)
        self.mass = np.empty(0)

    def phase(
        self,
        alleles: Alleles,
        calls: Calls,
        stay: Doubles,
        mismatch: Doubles,
        prior: Floats,
        seed: np.uint64,
        out: Calls,
    ) -> float:
        """Fills ``out`` [n_phasings, t, 2] for one target. Returns the log likelihood of its ``calls`` [t]."""
        first, classes, counts = blocks(alleles, self.max_classes, self.limits.max_sites)
        spans = self._spans(first)
        trace = (self.unswitched, self.switched, self.mass)
        target = Target(alleles, calls, stay, mismatch, prior, first, classes, counts, *trace)
        np.multiply(prior[:, None], prior, out=self.starts[0])
        likelihood = 0.0
        for number, (low, high) in enumerate(spans):
            last = number == len(spans) - 1
            # The backward pass begins in the last span, which therefore keeps every block's matrix. Elsewhere two
            # matrices are used in turn.
            matrices = self.matrices[: high - low] if last and len(out) and high - low > 2 else self.matrices[:2]
            likelihood += self._forward(target, number, low, high, matrices)
        if len(out) == 0:
            return likelihood
        copied = np.full((len(out), 2), np.argmax(prior), np.int32)
        randoms = np.array([mixed(seed ^ mixed(np.uint64(phasing + 1))) for phasing in range(len(out))], np.uint64)
        for number, (low, high) in reversed(list(enumerate(spans))):
            if number < len(spans) - 1:
                self._forward(target, number, low, high, self.matrices)
            backward(target, low, high, self.matrices, copied, randoms, out)
        return likelihood

    def _spans(self, first: Indices) -> list[tuple[int, int]]:
        """Cuts the blocks, which begin at sites ``first`` [n_blocks + 1], into spans, and enlarges the buffers."""
        n_blocks = len(first) - 1
        size = n_blocks if n_blocks * self.matrix_bytes <= self.limits.max_bytes else math.ceil(math.sqrt(n_blocks))
        spans = [(low, min(low + size, n_blocks)) for low in range(0, n_blocks, size)]
        k = self.matrices.shape[-1]
        if len(self.matrices) < size:
            self.matrices = np.empty((size, k, k), np.float32)
        if len(self.starts) < len(spans):
            self.starts = np.empty((len(spans), k, k), np.float32)
        rows = max(int(first[high] - first[low]) + high - low for low, high in spans)
        if len(self.mass) < rows:
            self.unswitched = np.empty((rows, k), np.float32)
            self.switched = np.empty((rows, self.max_classes), np.float32)
            self.mass = np.empty(rows)
        return spans

    def _forward(self, target: Target, number: int, low: int, high: int, matrices: Floats) -> float:
        matrices[0] = self.starts[number]
        after = self.starts[min(number + 1, len(self.starts) - 1)]
        return forward(target, low, high, matrices, after, self.scratch)


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
