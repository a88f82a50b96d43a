"""The compiled passes over pairs of copied haplotypes: forward over blocks of sites, and sampled paths backwards.

They compute one target exactly; ``tests/helpers/pair_hmm.py`` is the plain algorithm they are tested against. The
forward pass touches the k x k matrix once a *block* of sites, not once a site. Within a block haplotypes of the same
alleles form u classes (the state-space reduction of Howie et al. 2012, Nat. Genet. 44:955, here for pairs), and the
mass of a pair (i, j) of classes (u, v) is split by which of the two have switched since the block began, with A the
matrix at its start and pi the prior:

    A_l[i, j] = N_l[u, v] A[i, j] + O_l[i, v] pi[j] + pi[i] O_l[j, u] + Z_l[u, v] pi[i] pi[j]

A site with stay s moves the four on, and then its emission e(u, v), which knows only the classes, multiplies them:

    N[u, v] <- s^2 N[u, v]
    O[i, v] <- s^2 O[i, v] + s (1 - s) R[i]
    Z[u, v] <- s^2 Z[u, v] + s (1 - s) (M[u] + M[v]) + (1 - s)^2 T

R[i] is the mass whose first haplotype sits at i, not switched since the block began, the second anywhere; M[u] pi[i]
that whose first sits at i of class u, switched; T all of it. R needs A only summed over the classes of j. All masses
are divided by T at every site, which float32 needs on the way through a chromosome.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from vcfbert.constants import HALF_ALT, HALF_REF, MISSING
from vcfbert.copying.blocks import Classes, Float, Seeds, Target
from vcfbert.kernels import Alleles, Calls, Doubles, Floats, Numbers, compiled

# Added where a product could underflow: the least that a pair keeps of all mass, far below rounding. Without it pairs
# that many calls in a row speak against, where nothing recombines, would be lost for good, and slow on the way there.
_TINY: Final = np.float32(1e-30)
_ZERO: Final = np.float32(0.0)
_ONE: Final = np.float32(1.0)


class Scratch(NamedTuple):
    """What the forward pass works on within a block, with room for at least its u classes."""

    pairs: Floats  # [u, k]: N A, summed over the classes of the second haplotype
    one: Floats  # [u, k]: O, the class first
    neither: Floats  # [u, u]: N
    both: Floats  # [u, u]: Z


class _Block(NamedTuple):
    """A block of b sites whose k haplotypes form u classes, and what the forward pass leaves of it for the backward.

    ``stay`` has one more: that of the site after the block. ``unswitched`` R [b + 1, k], ``switched`` M [b + 1, u] and
    ``mass`` T [b + 1] begin with the block's start; the mass of a site is the probability of its genotype.
    """

    alleles: Alleles  # [b, k]
    calls: Calls  # [b]
    stay: Doubles  # [b + 1]
    mismatch: Doubles  # [b]
    classes: Classes  # [k]
    member: Numbers  # [u]: a haplotype of each class
    prior: Floats  # [k]
    class_prior: Floats  # [u]
    unswitched: Floats  # [b + 1, k]
    switched: Floats  # [b + 1, u]
    mass: Doubles  # [b + 1]


@compiled
def mixed(z: np.uint64) -> np.uint64:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled
def _random(states: Seeds, which: int) -> float:
    """Uniform in [0, 1), by SplitMix64 (Steele et al. 2014, OOPSLA)."""
    states[which] += np.uint64(0x9E3779B97F4A7C15)
    return float(mixed(states[which]) >> np.uint64(11)) * 2.0**-53


@compiled
def _emission(genotype: int, mismatch: float) -> tuple[Float, Float, Float]:
    """Probability of a genotype by the number of ALT alleles, 0, 1, 2, that the pair of haplotypes carries there; of
    a half call, that of its known allele, which either haplotype may be the source of."""
    if genotype < 0:
        return _ONE, _ONE, _ONE
    right, wrong = 1.0 - mismatch, mismatch
    if genotype == HALF_REF:  # which of the two is seen is open
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


@compiled
def _grouped(classes: Classes, n_classes: int) -> tuple[Numbers, Numbers]:
    """States by class [k], and where each class begins among them [n_classes + 1]."""
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


@compiled
def _class_sums(matrix: Floats, classes: Classes, sums: Floats) -> None:
    """``sums`` [u, k]: rows of a symmetric ``matrix`` [k, k] added up by class."""
    sums[:] = _ZERO
    for i in range(len(matrix)):
        row, total = matrix[i], sums[classes[i]]
        for j in range(len(row)):
            total[j] += row[j]


@compiled
def _moves(stay: float, mass: float) -> tuple[Float, Float, Float]:
    """Of neither, one given one, and both switching, when all mass so far is ``mass`` and is to be 1."""
    return np.float32(stay * stay / mass), np.float32(stay * (1.0 - stay) / mass), np.float32((1.0 - stay) ** 2)


@compiled
def _through(block: _Block, scratch: Scratch) -> float:
    """The forward pass over a block, and the log probability of its genotypes.

    ``scratch.pairs`` comes in as A summed by class; all of it is left as of the last site, and the block's R, M and T.
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
    seen = np.empty((2, k), np.float32)  # emission by the allele of the other haplotype
    class_seen = np.empty((2, n_classes), np.float32)
    likelihood = 0.0
    for l in range(n_sites):
        keep, jump_one, jump_both = _moves(block.stay[l], block.mass[l])
        e0, e1, e2 = _emission(block.calls[l], block.mismatch[l])
        for j in range(k):
            alt = np.float32(block.alleles[l, j])
            seen[0, j] = e0 + alt * (e1 - e0)
            seen[1, j] = e1 + alt * (e2 - e1)
        before, after = block.unswitched[l], block.unswitched[l + 1]
        after[:] = _ZERO
        for v in range(n_classes):
            emission = seen[block.alleles[l, block.member[v]]]
            weight = block.class_prior[v]
            block.switched[l + 1, v] = _step(pairs[v], one[v], emission, before, after, keep, jump_one, weight)
        for v in range(n_classes):
            class_seen[0, v] = seen[0, block.member[v]]
            class_seen[1, v] = seen[1, block.member[v]]
        total = 0.0
        for u in range(n_classes):
            emission = class_seen[block.alleles[l, block.member[u]]]
            arriving = jump_one * block.switched[l, u] + jump_both
            block.switched[l + 1, u] += _step_class(
                neither[u], both[u], emission, block.switched[l], block.class_prior, keep, jump_one, arriving
            )
            total += block.switched[l + 1, u] * block.class_prior[u]
        block.mass[l + 1] = total + after.sum()
        likelihood += np.log(block.mass[l + 1])
    return likelihood


@compiled
def _step(
    pairs: Floats, one: Floats, emission: Floats, before: Floats, after: Floats, keep: Float, jump: Float, weight: Float
) -> Float:
    """One site for one class of the second haplotype, of prior ``weight``; all arrays [k]. The sum of ``one``."""
    total = _ZERO
    for i in range(len(pairs)):
        stayed = pairs[i] * emission[i] * keep + _TINY
        arrived = emission[i] * (keep * one[i] + jump * before[i])
        pairs[i] = stayed
        one[i] = arrived
        after[i] += stayed + weight * arrived
        total += arrived
    return total


@compiled
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
    """One site for one class of the first haplotype; all arrays [u] or longer. The prior's mean of ``both``."""
    total = _ZERO
    for v in range(len(seen)):
        moved = seen[v] * (keep * both[v] + jump * switched[v] + both_jump)
        neither[v] = neither[v] * keep * seen[v] + _TINY
        both[v] = moved
        total += moved * prior[v]
    return total


@compiled
def _rebuild(block: _Block, matrix: Floats, out: Floats, scratch: Scratch, next_classes: Classes, count: int) -> None:
    """A at the block's end, scaled to a sum of 1, from A at its start: ``matrix`` to ``out`` [k, k], another; and
    ``scratch.pairs``: its sums by the ``count`` classes of the next block."""
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


@compiled
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
    # Two loops: one that writes both is too much for the compiler to see that nothing overlaps.
    for j in range(len(row)):
        row[j] = factor[j] * source[j] + first[j] * prior[j] + weight * second[j] + _TINY
    for j in range(len(row)):
        total[j] += row[j]


@compiled
def _pair_masses(block: _Block, start: float, i: int, j: int, masses: Floats) -> None:
    """A_l[i, j] of the first len(masses) sites, from A[i, j] = ``start`` at the block's start."""
    u, v = block.classes[i], block.classes[j]
    neither, second, first, both = np.float32(start), _ZERO, _ZERO, _ZERO  # N A[i, j], O[i, v], O[j, u], Z[u, v]
    for l in range(len(masses)):
        keep, jump_one, jump_both = _moves(block.stay[l], block.mass[l])
        e = _emission(block.calls[l], block.mismatch[l])[block.alleles[l, i] + block.alleles[l, j]]
        neither *= keep * e
        second = e * (keep * second + jump_one * block.unswitched[l, i])
        first = e * (keep * first + jump_one * block.unswitched[l, j])
        both = e * (keep * both + jump_one * (block.switched[l, u] + block.switched[l, v]) + jump_both)
        masses[l] = neither + second * block.prior[j] + block.prior[i] * (first + both * block.prior[j])


@compiled
def _at(block: _Block, l: int, i: int) -> Float:
    """Mass of all pairs whose first haplotype is at i after site l: R[i] + pi[i] M[u]."""
    mass: Float = block.unswitched[l + 1, i] + block.prior[i] * block.switched[l + 1, block.classes[i]]
    return mass


@compiled
def _drawn_first(block: _Block, l: int, random: float) -> int:
    """The first haplotype at site l, the second being anywhere."""
    left = random * block.mass[l + 1]
    for i in range(len(block.prior)):
        left -= _at(block, l, i)
        if left < 0.0:
            return i
    return int(np.argmax(block.prior))  # only by rounding


@compiled
def _drawn_second(block: _Block, row: Floats, l: int, i: int, random: float) -> int:
    """The second haplotype at site l given that the first is i, whose ``row`` [k] of A is that at the block's start."""
    k, n_classes = len(block.prior), len(block.member)
    u, weight = block.classes[i], block.prior[i]
    neither = np.ones(n_classes, np.float32)
    second = np.zeros(n_classes, np.float32)
    both = np.zeros(n_classes, np.float32)
    for s in range(l + 1):
        keep, jump_one, jump_both = _moves(block.stay[s], block.mass[s])
        emission = _emission(block.calls[s], block.mismatch[s])
        for v in range(n_classes):
            e = emission[block.alleles[s, i] + block.alleles[s, block.member[v]]]
            neither[v] *= keep * e
            second[v] = e * (keep * second[v] + jump_one * block.unswitched[s, i])
            both[v] = e * (keep * both[v] + jump_one * (block.switched[s, u] + block.switched[s, v]) + jump_both)
    left = random * _at(block, l, i)
    for j in range(k):
        v = block.classes[j]
        left -= neither[v] * row[j] + block.prior[j] * (second[v] + weight * both[v])
        if left < 0.0:
            return j
    # What is left: the first has switched since the block began, the second has not. It is rarely asked for.
    first = np.zeros(k, np.float32)
    for s in range(l + 1):
        keep, jump_one, _ = _moves(block.stay[s], block.mass[s])
        emission = _emission(block.calls[s], block.mismatch[s])
        for j in range(k):
            e = emission[block.alleles[s, i] + block.alleles[s, j]]
            first[j] = e * (keep * first[j] + jump_one * block.unswitched[s, j])
    for j in range(k):
        left -= weight * first[j]
        if left < 0.0:
            return j
    return int(np.argmax(first))  # only by rounding


@compiled
def _sample(block: _Block, matrix: Floats, copied: Numbers, randoms: Seeds, out: Calls) -> None:
    """Draws ``out`` [n_phasings, b, 2] backwards over a block that began with A = ``matrix``.

    ``copied`` [n_phasings, 2]: the pairs at the site after the block, left as those at the block's first site.
    """
    n_sites = len(block.calls)
    masses = np.empty(n_sites, np.float32)
    for phasing in range(len(copied)):
        i, j = copied[phasing]
        _pair_masses(block, matrix[i, j], i, j, masses)
        for l in range(n_sites - 1, -1, -1):
            stay, jump = block.stay[l + 1], 1.0 - block.stay[l + 1]
            # The pair there given the next one, by which of the two switched on the way.
            neither = stay * stay * masses[l]
            second = neither + stay * jump * block.prior[j] * _at(block, l, i)
            first = second + stay * jump * block.prior[i] * _at(block, l, j)
            total = first + jump * jump * block.prior[i] * block.prior[j] * block.mass[l + 1]
            at = _random(randoms, phasing) * total
            if at >= neither:
                if at >= first:
                    i = _drawn_first(block, l, _random(randoms, phasing))
                if at >= first or at < second:
                    j = _drawn_second(block, matrix[i], l, i, _random(randoms, phasing))
                else:
                    i = _drawn_second(block, matrix[j], l, j, _random(randoms, phasing))
                _pair_masses(block, matrix[i, j], i, j, masses[:l])
            x, y = block.alleles[l, i], block.alleles[l, j]
            wrong = block.mismatch[l] ** 2
            right = (1.0 - block.mismatch[l]) ** 2
            out[phasing, l, 0] = block.calls[l] // 2
            out[phasing, l, 1] = block.calls[l] // 2
            if block.calls[l] == 1:
                likely = right / (right + wrong) if x != y else 0.5
                alt_first = (x > y) == (_random(randoms, phasing) < likely)
                out[phasing, l, 0] = alt_first
                out[phasing, l, 1] = not alt_first
            elif block.calls[l] >= HALF_REF:
                known = block.calls[l] - HALF_REF
                by_first = 1.0 - block.mismatch[l] if x == known else block.mismatch[l]
                by_second = 1.0 - block.mismatch[l] if y == known else block.mismatch[l]
                seen_first = _random(randoms, phasing) * (by_first + by_second) < by_first
                out[phasing, l, 0] = known if seen_first else MISSING
                out[phasing, l, 1] = MISSING if seen_first else known
        copied[phasing, 0] = i
        copied[phasing, 1] = j


@compiled
def _block(target: Target, number: int, segment: int) -> _Block:
    """A block of the segment that begins with block ``segment``."""
    start, stop = target.first[number], target.first[number + 1]
    classes, n_classes = target.classes[number], target.counts[number]
    member = np.empty(n_classes, np.int32)
    class_prior = np.zeros(n_classes, np.float32)
    for j in range(len(classes)):
        member[classes[j]] = j
        class_prior[classes[j]] += target.prior[j]
    low = start - target.first[segment] + number - segment
    rows = slice(low, low + stop - start + 1)
    return _Block(
        target.alleles[start:stop],
        target.calls[start:stop],
        target.stay[start : stop + 1],
        target.mismatch[start:stop],
        classes,
        member,
        target.prior,
        class_prior,
        target.unswitched[rows],
        target.switched[rows, :n_classes],
        target.mass[rows],
    )


@compiled
def forward(target: Target, low: int, high: int, matrices: Floats, after: Floats, scratch: Scratch) -> float:
    """The forward pass over blocks low to high - 1, and the log probability of their genotypes.

    ``matrices`` [high - low or 2, k, k]: A at the blocks' starts, the first of them given; where there are but two,
    they take turns. ``after`` [k, k] gets that at the segment's end unless the chromosome ends there.
    """
    n_blocks = len(target.counts)
    _class_sums(matrices[0], target.classes[low], scratch.pairs[: target.counts[low]])
    likelihood = 0.0
    for number in range(low, high):
        block = _block(target, number, low)
        likelihood += _through(block, scratch)
        if number + 1 < n_blocks:
            source = matrices[(number - low) % len(matrices)]
            out = after if number + 1 == high else matrices[(number + 1 - low) % len(matrices)]
            _rebuild(block, source, out, scratch, target.classes[number + 1], target.counts[number + 1])
    return likelihood


@compiled
def backward(
    target: Target, low: int, high: int, matrices: Floats, copied: Numbers, randoms: Seeds, out: Calls
) -> None:
    """Draws ``out`` [n_phasings, t, 2] over blocks high - 1 to low, which ``forward`` was the last to go through.

    ``copied`` [n_phasings, 2]: the pairs at the site after them, left as those at their first site; ``randoms``
    [n_phasings]: the generators' states. After the last site ``stay`` is 0, so that the pair there means nothing, but
    its prior must not be 0.
    """
    for number in range(high - 1, low - 1, -1):
        sites = slice(target.first[number], target.first[number + 1])
        _sample(_block(target, number, low), matrices[number - low], copied, randoms, out[:, sites])
