"""Samples pairs of copied haplotypes backwards from their exact posterior, and phased alleles given the pairs.

Works on what the forward pass kept of each block; ``pair_forward.py`` defines A, N, O, Z, R, M and T.
"""

from __future__ import annotations

import numpy as np

from vcfbert.constants import HALF_REF, MISSING
from vcfbert.copying.blocks import Block, Float, Seeds, Target, block_of
from vcfbert.copying.pair_forward import emission, moves
from vcfbert.kernels import Calls, Floats, Numbers, jitted

_ZERO = np.float32(0.0)


@jitted
def mixed(z: np.uint64) -> np.uint64:
    """The output function of SplitMix64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@jitted
def backward(
    target: Target, low: int, high: int, matrices: Floats, copied: Numbers, randoms: Seeds, out: Calls
) -> None:
    """Samples ``out`` [n_phasings, t, 2] over blocks high - 1 to low, the span of the latest call of ``forward``.

    ``copied`` [n_phasings, 2] holds the pairs at the site after the span on entry, and those at its first site on
    return. ``randoms`` [n_phasings]: the generators' states. After the last site ``stay`` is 0, so any pair whose prior
    is not 0 may stand there.
    """
    for number in range(high - 1, low - 1, -1):
        sites = slice(target.first[number], target.first[number + 1])
        _sample(block_of(target, number, low), matrices[number - low], copied, randoms, out[:, sites])


@jitted
def _sample(block: Block, matrix: Floats, copied: Numbers, randoms: Seeds, out: Calls) -> None:
    """Samples ``out`` [n_phasings, b, 2] backwards over a block, with A = ``matrix`` [k, k] at its start.

    ``copied`` [n_phasings, 2] holds the pairs at the site after the block on entry, and those at the block's first site
    on return.
    """
    n_sites = len(block.calls)
    masses = np.empty(n_sites, np.float32)
    for phasing in range(len(copied)):
        i, j = copied[phasing]
        _pair_masses(block, matrix[i, j], i, j, masses)
        for l in range(n_sites - 1, -1, -1):
            stay, jump = block.stay[l + 1], 1.0 - block.stay[l + 1]
            # The pair at l given the one at l + 1, by which of the two haplotypes switched between the sites.
            neither = stay * stay * masses[l]
            second = neither + stay * jump * block.prior[j] * _mass_at(block, l, i)
            first = second + stay * jump * block.prior[i] * _mass_at(block, l, j)
            total = first + jump * jump * block.prior[i] * block.prior[j] * block.mass[l + 1]
            at = _random(randoms, phasing) * total
            if at >= neither:
                if at >= first:
                    i = _sampled_first(block, l, _random(randoms, phasing))
                if at >= first or at < second:
                    j = _sampled_second(block, matrix[i], l, i, _random(randoms, phasing))
                else:
                    i = _sampled_second(block, matrix[j], l, j, _random(randoms, phasing))
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


@jitted
def _pair_masses(block: Block, start: float, i: int, j: int, masses: Floats) -> None:
    """Fills ``masses`` with A_l[i, j] of the block's first sites, from A[i, j] = ``start`` at its start."""
    u, v = block.classes[i], block.classes[j]
    neither, second, first, both = np.float32(start), _ZERO, _ZERO, _ZERO  # N A[i, j], O[i, v], O[j, u], Z[u, v]
    for l in range(len(masses)):
        keep, jump_one, jump_both = moves(block.stay[l], block.mass[l])
        e = emission(block.calls[l], block.mismatch[l])[block.alleles[l, i] + block.alleles[l, j]]
        neither *= keep * e
        second = e * (keep * second + jump_one * block.unswitched[l, i])
        first = e * (keep * first + jump_one * block.unswitched[l, j])
        both = e * (keep * both + jump_one * (block.switched[l, u] + block.switched[l, v]) + jump_both)
        masses[l] = neither + second * block.prior[j] + block.prior[i] * (first + both * block.prior[j])


@jitted
def _mass_at(block: Block, l: int, i: int) -> Float:
    """Mass of all pairs whose first haplotype is i after site l: R[i] + pi[i] M[u]."""
    mass: Float = block.unswitched[l + 1, i] + block.prior[i] * block.switched[l + 1, block.classes[i]]
    return mass


@jitted
def _sampled_first(block: Block, l: int, random: float) -> int:
    """The first haplotype at site l, whatever the second is. ``random``: uniform in [0, 1)."""
    left = random * block.mass[l + 1]
    for i in range(len(block.prior)):
        left -= _mass_at(block, l, i)
        if left < 0.0:
            return i
    return int(np.argmax(block.prior))  # reached by rounding alone


@jitted
def _sampled_second(block: Block, row: Floats, l: int, i: int, random: float) -> int:
    """The second haplotype at site l given that the first is i. ``row`` [k]: row i of A at the block's start."""
    k, n_classes = len(block.prior), len(block.member)
    u, weight = block.classes[i], block.prior[i]
    neither = np.ones(n_classes, np.float32)
    second = np.zeros(n_classes, np.float32)
    both = np.zeros(n_classes, np.float32)
    for s in range(l + 1):
        keep, jump_one, jump_both = moves(block.stay[s], block.mass[s])
        by_alt = emission(block.calls[s], block.mismatch[s])
        for v in range(n_classes):
            e = by_alt[block.alleles[s, i] + block.alleles[s, block.member[v]]]
            neither[v] *= keep * e
            second[v] = e * (keep * second[v] + jump_one * block.unswitched[s, i])
            both[v] = e * (keep * both[v] + jump_one * (block.switched[s, u] + block.switched[s, v]) + jump_both)
    left = random * _mass_at(block, l, i)
    for j in range(k):
        v = block.classes[j]
        left -= neither[v] * row[j] + block.prior[j] * (second[v] + weight * both[v])
        if left < 0.0:
            return j
    # What is left is the mass whose first haplotype has switched since the block began and whose second has not. It
    # is small, so it is computed only when it is reached.
    first = np.zeros(k, np.float32)
    for s in range(l + 1):
        keep, jump_one, _ = moves(block.stay[s], block.mass[s])
        by_alt = emission(block.calls[s], block.mismatch[s])
        for j in range(k):
            e = by_alt[block.alleles[s, i] + block.alleles[s, j]]
            first[j] = e * (keep * first[j] + jump_one * block.unswitched[s, j])
    for j in range(k):
        left -= weight * first[j]
        if left < 0.0:
            return j
    return int(np.argmax(first))  # reached by rounding alone


@jitted
def _random(states: Seeds, which: int) -> float:
    """The next number, uniform in [0, 1), of generator ``which``: SplitMix64 (Steele et al. 2014, OOPSLA)."""
    states[which] += np.uint64(0x9E3779B97F4A7C15)
    return float(mixed(states[which]) >> np.uint64(11)) * 2.0**-53
