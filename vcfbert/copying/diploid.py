"""Phasings drawn from the diploid copying model, on CPU: the fast way from unphased genotypes to dosages.

The forward pass over pairs of copied haplotypes is exact (``pairs.py``); the two copied paths are then drawn backwards
from their exact joint posterior, and the alleles given the paths. The mean of the haploid layer's dosages over
phasings is a Rao-Blackwellised estimate of the diploid model's dosage, and each may copy from more haplotypes.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from vcfbert.constants import MISSING
from vcfbert.copying.blocks import Seeds, Target, blocks
from vcfbert.copying.pairs import Scratch, backward, forward, mixed
from vcfbert.kernels import Alleles, Calls, Doubles, Floats, Indices, divide_among_threads

# A block ends before it has more classes or sites than these: what is touched at every site grows with the classes,
# what is touched once a block, with the square of the haplotypes, is shared by its sites.
HAPLOTYPES_PER_CLASS: Final = 12
MIN_CLASSES, MAX_CLASSES = 8, 64
MAX_SITES: Final = 48
# Matrices at the blocks' starts take at most so many bytes a thread; where the chromosome needs more, only those at
# the starts of sqrt(blocks) segments are kept, and the others computed again.
MAX_BYTES: Final = 200_000_000


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
    max_bytes: int = MAX_BYTES,
) -> Calls:
    """Alleles int8 [n_phasings, t, n, 2] drawn from their exact posterior under the diploid copying model.

    ``genotypes`` int8 [t, n]: 0, 1, 2, -1 where missing, and so are both alleles then, or HALF_REF, HALF_ALT, where the
    known allele is drawn onto one haplotype and that of the other is -1. ``panel_alleles`` uint8 [t, h];
    ``states`` [n, k]: the haplotypes that each target may copy; ``prior`` [n, k]: where a switch leads, rows of sum 1,
    None is uniform. ``stay`` [t]: probability of no switch before a site (the first is not looked at); ``mismatch``
    [t], in (0, 0.5]: that of seeing the other allele. ``seeds`` uint64 [n]: a target's phasings depend on its own
    seed and data alone, its first phasings not on how many are drawn. ``max_bytes``: of matrices in each of
    ``threads``; where k^2 floats for every block are more, their number is the square root of that, which is the
    least, and the forward pass is done twice.
    """
    out = np.empty((genotypes.shape[1], n_phasings, len(genotypes), 2), np.int8)
    _run(genotypes, panel_alleles, states, prior, stay, mismatch, seeds, threads, max_bytes, out)
    phasings: Calls = np.ascontiguousarray(out.transpose(1, 2, 0, 3))
    return phasings


def log_likelihood(
    genotypes: Calls,
    panel_alleles: Alleles,
    states: npt.NDArray[np.integer],
    prior: Floats | None,
    stay: npt.NDArray[np.floating],
    mismatch: npt.NDArray[np.floating],
    *,
    threads: int = 1,
) -> Doubles:
    """[n]: log probability of each target's genotypes; the arguments of ``sample_phasings``."""
    seeds = np.zeros(genotypes.shape[1], np.uint64)
    out = np.empty((genotypes.shape[1], 0, len(genotypes), 2), np.int8)
    return _run(genotypes, panel_alleles, states, prior, stay, mismatch, seeds, threads, MAX_BYTES, out)


def _run(
    genotypes: Calls,
    panel_alleles: Alleles,
    states: npt.NDArray[np.integer],
    prior: Floats | None,
    stay: npt.NDArray[np.floating],
    mismatch: npt.NDArray[np.floating],
    seeds: Seeds,
    threads: int,
    max_bytes: int,
    out: Calls,
) -> Doubles:
    """Fills ``out`` [n, n_phasings, t, 2] by ``threads``; log likelihoods [n]."""
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
    # 0 at both ends: the prior alone speaks before the first site, and nothing after the last.
    inner = np.concatenate([[0.0], np.asarray(stay, np.float64)[1:], [0.0]])
    errors = np.array(mismatch, np.float64)

    def work(targets: Indices) -> None:
        worker = _Worker(k, max_bytes)
        for target in targets:
            weights = np.full(k, 1.0 / k, np.float32) if prior is None else np.array(prior[target], np.float32)
            alleles = np.take(panel_alleles, states[target], axis=1).astype(np.uint8, copy=False)
            calls = np.array(genotypes[:, target], np.int8)
            likelihood[target] = worker.phase(alleles, calls, inner, errors, weights, seeds[target], out[target])

    divide_among_threads(work, n, threads)
    return likelihood


class _Worker:
    """One thread's room, kept from target to target: fresh memory costs more than what is done in it."""

    def __init__(self, k: int, max_bytes: int) -> None:
        self.max_classes = most = int(np.clip(k // HAPLOTYPES_PER_CLASS, MIN_CLASSES, MAX_CLASSES))
        self.matrix_bytes = 4 * k * k
        self.max_bytes = max_bytes
        self.matrices = np.empty((2, k, k), np.float32)  # A at the blocks' starts, of a segment
        self.starts = np.empty((1, k, k), np.float32)  # A at the segments' starts
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
        """Draws ``out`` [n_phasings, t, 2] for one target; the log likelihood of its ``calls`` [t]."""
        first, classes, counts = blocks(alleles, self.max_classes, MAX_SITES)
        segments = self._segments(first)
        trace = (self.unswitched, self.switched, self.mass)
        target = Target(alleles, calls, stay, mismatch, prior, first, classes, counts, *trace)
        np.multiply(prior[:, None], prior, out=self.starts[0])
        likelihood = 0.0
        for number, (low, high) in enumerate(segments):
            last = number == len(segments) - 1
            # Every block's matrix is kept only where the way back begins; else two take turns.
            matrices = self.matrices[: high - low] if last and len(out) and high - low > 2 else self.matrices[:2]
            likelihood += self._forward(target, number, low, high, matrices)
        if len(out) == 0:
            return likelihood
        copied = np.full((len(out), 2), np.argmax(prior), np.int32)
        randoms = np.array([mixed(seed ^ mixed(np.uint64(phasing + 1))) for phasing in range(len(out))], np.uint64)
        for number, (low, high) in reversed(list(enumerate(segments))):
            if number < len(segments) - 1:
                self._forward(target, number, low, high, self.matrices)
            backward(target, low, high, self.matrices, copied, randoms, out)
        return likelihood

    def _segments(self, first: Indices) -> list[tuple[int, int]]:
        """Ranges of the blocks that begin at sites ``first`` [n_blocks + 1], with room made for them."""
        n_blocks = len(first) - 1
        size = n_blocks if n_blocks * self.matrix_bytes <= self.max_bytes else math.ceil(math.sqrt(n_blocks))
        segments = [(low, min(low + size, n_blocks)) for low in range(0, n_blocks, size)]
        k = self.matrices.shape[-1]
        if len(self.matrices) < size:
            self.matrices = np.empty((size, k, k), np.float32)
        if len(self.starts) < len(segments):
            self.starts = np.empty((len(segments), k, k), np.float32)
        rows = max(int(first[high] - first[low]) + high - low for low, high in segments)
        if len(self.mass) < rows:
            self.unswitched = np.empty((rows, k), np.float32)
            self.switched = np.empty((rows, self.max_classes), np.float32)
            self.mass = np.empty(rows)
        return segments

    def _forward(self, target: Target, number: int, low: int, high: int, matrices: Floats) -> float:
        matrices[0] = self.starts[number]
        after = self.starts[min(number + 1, len(self.starts) - 1)]
        return forward(target, low, high, matrices, after, self.scratch)


def heterozygous_calls(calls: Calls) -> npt.NDArray[np.bool_]:
    """[..]: those of ``calls`` [.., 2] whose alleles are both known and differ."""
    return np.asarray((calls[..., 0] != calls[..., 1]) & (calls >= 0).all(axis=-1))


def consensus(phasings: Calls) -> Calls:
    """One phase int8 [t, n, 2] from phasings [n_phasings, t, n, 2] of the same genotypes.

    Each heterozygous call stands to the one before it as in most phasings, and so does each half call, to which no
    other call is held; ties go to the first phasing.
    """
    heterozygous = heterozygous_calls(phasings[0])  # [t, n]
    t, n = heterozygous.shape
    place = np.where(heterozygous, np.arange(t)[:, None], -1)
    before = np.maximum.accumulate(np.concatenate([np.full((1, n), -1), place]), axis=0)[:t]
    # The greater allele: ALT of a heterozygous call, the known one of a half call.
    alt_first = phasings[:, :, :, 0] > phasings[:, :, :, 1]  # [n_phasings, t, n]
    previous = np.take_along_axis(alt_first, np.maximum(before, 0)[None], axis=1)
    turned = alt_first != previous
    votes = 2 * turned.sum(axis=0)
    turn = np.where(votes == len(phasings), turned[0], votes > len(phasings))
    # The first heterozygous call is as in the first phasing; every turn from there on flips all that follows.
    turn = np.where(before < 0, alt_first[0], turn) & heterozygous
    second = np.logical_xor.accumulate(turn, axis=0)
    out: Calls = phasings[0].copy()
    out[heterozygous, 0] = second[heterozygous]
    out[heterozygous, 1] = ~second[heterozygous]
    half = (phasings[0] == MISSING).sum(axis=-1) == 1
    if half.any():
        known_first = alt_first ^ (previous ^ np.take_along_axis(second, np.maximum(before, 0), axis=0))
        votes = 2 * known_first.sum(axis=0)
        first = np.where(votes == len(phasings), known_first[0], votes > len(phasings))
        first = np.where(before < 0, alt_first[0], first)
        out[half] = np.where(first[half][:, None] == [True, False], out[half].max(axis=-1, keepdims=True), MISSING)
    return out
