"""The exact forward pass over pairs of copied haplotypes, compiled for one unphased target.

``tests/helpers/pair_hmm.py`` is the plain algorithm. The forward pass touches the k x k matrix of pair masses once per
*block* of sites, not once per site. Within a block the haplotypes that carry the same alleles form u classes (the
state-space reduction of Howie et al. 2012, Nat. Genet. 44:955, here for pairs). A is the matrix at the block's start
and pi the prior. The mass of a pair (i, j) of classes (u, v) after site l has four parts, by which of the two
haplotypes have switched since the block began:

    A_l[i, j] = N_l[u, v] A[i, j] + O_l[i, v] pi[j] + pi[i] O_l[j, u] + Z_l[u, v] pi[i] pi[j]

A site whose stay probability is s updates N, O and Z as below. Then its emission e(u, v), which depends on the classes
alone, multiplies them:

    N[u, v] <- s^2 N[u, v]
    O[i, v] <- s^2 O[i, v] + s (1 - s) R[i]
    Z[u, v] <- s^2 Z[u, v] + s (1 - s) (M[u] + M[v]) + (1 - s)^2 T

R[i] is the mass whose first haplotype is i and has not switched since the block began, whatever the second is. M[u]
pi[i] is the mass whose first haplotype is i, of class u, and has switched. T is all mass. R needs A only summed over
the classes of j. All masses are divided by T at every site, because float32 would underflow along a chromosome.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from vcfbert.constants import HALF_ALT, HALF_REF
from vcfbert.copying.blocks import Block, Classes, Float, Target, block_of
from vcfbert.kernels import Floats, Numbers, jitted

# Added where a product could underflow. Masses sum to 1, so it is far below rounding error. Without it, a pair that
# many consecutive calls contradict would fall to 0 where nothing recombines, and could never regain mass. Denormal
# numbers on the way there would be slow.
_TINY: Final = np.float32(1e-30)
_ZERO: Final = np.float32(0.0)
_ONE: Final = np.float32(1.0)


class Scratch(NamedTuple):
    """Working memory of the forward pass within a block, with room for at least its u classes."""

    pairs: Floats  # [u, k]: N A, summed over the classes of the second haplotype
    one: Floats  # [u, k]: O, the class first
    neither: Floats  # [u, u]: N
    both: Floats  # [u, u]: Z


@jitted
def emission(genotype: int, mismatch: float) -> tuple[Float, Float, Float]:
    """Probabilities of ``genotype`` if the copied pair carries 0, 1 or 2 ALT alleles.

    For a half call it is the probability of the known allele, which is equally likely to come from either haplotype.
    """
    if genotype < 0:
        return _ONE, _ONE, _ONE
    right, wrong = 1.0 - mismatch, mismatch
    if genotype == HALF_REF:
        return np.float32(right), np.float32(0.5), np.float32(wrong)
    if genotype == HALF_ALT:
        return np.float32(wrong), np.float32(0.5), np.float32(right)
    if genotype == 1:
        same = np.float32(2.0 * right * wrong)
        return same, np.float32(right * right + wrong * wrong), same
    like, half, unlike = np.float32(right * right), np.float32(right * wrong), np.float32(wrong * wrong)
    if genotype == 0:
        return like, half, unlike
    return unlike, half, like


@jitted
def moves(stay: float, mass: float) -> tuple[Float, Float, Float]:
    """Factors of three events before a site: neither haplotype switches, only a given one does, or both do.

    The first two are divided by ``mass``, all mass so far, which scales it to 1. The third applies to a mass of 1.
    """
    return np.float32(stay * stay / mass), np.float32(stay * (1.0 - stay) / mass), np.float32((1.0 - stay) ** 2)


@jitted
def forward(target: Target, low: int, high: int, matrices: Floats, after: Floats, scratch: Scratch) -> float:
    """The forward pass over the span of blocks low to high - 1. Returns the log probability of their genotypes.

    ``matrices`` [high - low or 2, k, k] gets A at the blocks' starts, of which the first is given; two matrices are
    used in turn. ``after`` [k, k] gets A at the span's end, unless the chromosome ends there.
    """
    n_blocks = len(target.counts)
    _class_sums(matrices[0], target.classes[low], scratch.pairs[: target.counts[low]])
    likelihood = 0.0
    for number in range(low, high):
        block = block_of(target, number, low)
        likelihood += _through(block, scratch)
        if number + 1 < n_blocks:
            source = matrices[(number - low) % len(matrices)]
            out = after if number + 1 == high else matrices[(number + 1 - low) % len(matrices)]
            _rebuild(block, source, out, scratch, target.classes[number + 1], target.counts[number + 1])
    return likelihood


@jitted
def _through(block: Block, scratch: Scratch) -> float:
    """The forward pass over a block. Returns the log probability of its genotypes.

    ``scratch.pairs`` holds A summed by class on entry. On return ``scratch`` holds the values of the last site, and the
    block's R, M and T are filled.
    """
    pairs, one, neither, both = scratch
    n_sites, k = block.alleles.shape
    n_classes = len(block.member)
    neither[:n_classes, :n_classes] = _ONE
    both[:n_classes, :n_classes] = _ZERO
    one[:n_classes] = _ZERO
    block.switched[0] = _ZERO
    block.unswitched[0] = _ZERO
    for v in range(n_classes):
        block.unswitched[0] += pairs[v]
    block.mass[0] = block.unswitched[0].sum()
    seen = np.empty((2, k), np.float32)  # emission by the allele of the second haplotype
    class_seen = np.empty((2, n_classes), np.float32)
    likelihood = 0.0
    for l in range(n_sites):
        keep, jump_one, jump_both = moves(block.stay[l], block.mass[l])
        e0, e1, e2 = emission(block.calls[l], block.mismatch[l])
        for j in range(k):
            alt = np.float32(block.alleles[l, j])
            seen[0, j] = e0 + alt * (e1 - e0)
            seen[1, j] = e1 + alt * (e2 - e1)
        before, after = block.unswitched[l], block.unswitched[l + 1]
        after[:] = _ZERO
        for v in range(n_classes):
            of_class = seen[block.alleles[l, block.member[v]]]
            weight = block.class_prior[v]
            block.switched[l + 1, v] = _step(pairs[v], one[v], of_class, before, after, keep, jump_one, weight)
        for v in range(n_classes):
            class_seen[0, v] = seen[0, block.member[v]]
            class_seen[1, v] = seen[1, block.member[v]]
        total = 0.0
        for u in range(n_classes):
            of_class = class_seen[block.alleles[l, block.member[u]]]
            arriving = jump_one * block.switched[l, u] + jump_both
            block.switched[l + 1, u] += _step_class(
                neither[u], both[u], of_class, block.switched[l], block.class_prior, keep, jump_one, arriving
            )
            total += block.switched[l + 1, u] * block.class_prior[u]
        block.mass[l + 1] = total + after.sum()
        likelihood += np.log(block.mass[l + 1])
    return likelihood


@jitted
def _step(
    pairs: Floats, one: Floats, seen: Floats, before: Floats, after: Floats, keep: Float, jump: Float, weight: Float
) -> Float:
    """One site for one class of the second haplotype, of prior ``weight``; arrays [k]. Returns the sum of ``one``."""
    total = _ZERO
    for i in range(len(pairs)):
        stayed = pairs[i] * seen[i] * keep + _TINY
        arrived = seen[i] * (keep * one[i] + jump * before[i])
        pairs[i] = stayed
        one[i] = arrived
        after[i] += stayed + weight * arrived
        total += arrived
    return total


@jitted
def _step_class(
    neither: Floats,
    both: Floats,
    seen: Floats,
    switched: Floats,
    prior: Floats,
    keep: Float,
    jump: Float,
    both_jump: Float,
) -> Float:
    """One site for one class of the first haplotype. All arrays [u] or longer. Returns the prior mean of ``both``."""
    total = _ZERO
    for v in range(len(seen)):
        moved = seen[v] * (keep * both[v] + jump * switched[v] + both_jump)
        neither[v] = neither[v] * keep * seen[v] + _TINY
        both[v] = moved
        total += moved * prior[v]
    return total


@jitted
def _rebuild(block: Block, matrix: Floats, out: Floats, scratch: Scratch, next_classes: Classes, count: int) -> None:
    """Fills ``out`` [k, k] with A at the block's end, scaled to sum 1, from ``matrix`` [k, k], A at its start.

    The two may not overlap. ``scratch.pairs`` gets the sums of ``out`` by the ``count`` classes of the next block.
    """
    _, one, neither, both = scratch
    sums = scratch.pairs[:count]
    k = len(matrix)
    n_classes = len(block.member)
    scale = np.float32(1.0 / block.mass[-1])
    sums[:] = _ZERO
    order, ends = _grouped(block.classes, n_classes)
    factor = np.empty(k, np.float32)
    second = np.empty(k, np.float32)
    first = np.empty(k, np.float32)
    column = np.empty(n_classes, np.float32)
    for u in range(n_classes):
        for j in range(k):
            factor[j] = neither[u, block.classes[j]] * scale
            second[j] = (one[u, j] + both[u, block.classes[j]] * block.prior[j]) * scale
        for at in range(ends[u], ends[u + 1]):
            i = order[at]
            for v in range(n_classes):
                column[v] = one[v, i] * scale
            for j in range(k):
                first[j] = column[block.classes[j]]
            _add_row(matrix[i], out[i], factor, first, block.prior, second, block.prior[i], sums[next_classes[i]])


@jitted
def _grouped(classes: Classes, n_classes: int) -> tuple[Numbers, Numbers]:
    """Haplotypes ordered by class [k], and where each class begins in that order [n_classes + 1]."""
    ends = np.zeros(n_classes + 1, np.int32)
    for j in range(len(classes)):
        ends[classes[j] + np.uint32(1)] += 1
    ends = np.cumsum(ends).astype(np.int32)
    free = ends.copy()
    order = np.empty(len(classes), np.int32)
    for j in range(len(classes)):
        order[free[classes[j]]] = j
        free[classes[j]] += 1
    return order, ends


@jitted
def _class_sums(matrix: Floats, classes: Classes, sums: Floats) -> None:
    """Fills ``sums`` [u, k]: the rows of the symmetric ``matrix`` [k, k] summed by class."""
    sums[:] = _ZERO
    for i in range(len(matrix)):
        row, total = matrix[i], sums[classes[i]]
        for j in range(len(row)):
            total[j] += row[j]


@jitted
def _add_row(
    source: Floats,
    row: Floats,
    factor: Floats,
    first: Floats,
    prior: Floats,
    second: Floats,
    weight: Float,
    total: Floats,
) -> None:
    """Fills one ``row`` [k] of the matrix and adds it to ``total`` [k]."""
    # Two loops: in a single one the compiler cannot tell that the two outputs do not overlap, and does not vectorise.
    for j in range(len(row)):
        row[j] = factor[j] * source[j] + first[j] * prior[j] + weight * second[j] + _TINY
    for j in range(len(row)):
        total[j] += row[j]
