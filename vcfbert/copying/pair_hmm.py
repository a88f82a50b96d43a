"""The diploid Li-Stephens HMM of unphased genotypes: pairs of copied haplotypes, and phasings sampled from them.

A target's two haplotypes copy independently, each as in ``haploid.py``, and the genotype is the sum of their alleles
(Li and Stephens 2003, Genetics 165:2213; Marchini et al. 2007, Nat. Genet. 39:906). Transitions factorise, so the time
a site takes grows with k^2, not k^4. This is the plain algorithm; ``kernels/pair_forward.c`` has a faster form of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vcfbert.constants import HALF_ALT, HALF_REF, MISSING
from vcfbert.kernels import Alleles, Calls, Doubles, Floats, Indices, Numbers, compiled

Seeds = npt.NDArray[np.uint64]

_BITS: Final = 2**64 - 1


class UnphasedTargets(NamedTuple):
    """n targets over t sites, each with k of the panel's h haplotypes to copy."""

    genotypes: Calls  # [t, n]: 0, 1, 2, -1 where missing, HALF_REF or HALF_ALT
    panel_alleles: Alleles  # [t, h]
    states: Numbers  # [n, k]: the haplotypes that each target may copy
    prior: Floats  # [n, k]: probability of each haplotype after a switch
    stay: Doubles  # [t + 1]: probability of no switch before each site, 0 at both ends
    mismatch: Doubles  # [t]: probability that the observed allele differs from the copied one
    seeds: Seeds  # [n]


@dataclass(frozen=True)
class PairProblem:
    """One target over t sites, with k haplotypes to copy from."""

    genotypes: npt.NDArray[np.integer]  # [t]: 0, 1, 2, -1 where missing, HALF_REF or HALF_ALT
    alleles: Alleles  # [t, k]
    prior: Doubles  # [k], probability of each haplotype after a switch
    stay: Doubles  # [t], probability of no switch before each site; the first is 0
    mismatch: Doubles  # [t], probability that an allele differs from the copied one

    def __len__(self) -> int:
        return len(self.genotypes)

    def emission(self, site: int) -> Doubles:
        return genotype_emission(int(self.genotypes[site]), self.alleles[site], float(self.mismatch[site]))

    def forward(self, before: Doubles, start: int, stop: int) -> tuple[Doubles, Doubles]:
        """The forward pass over s sites, from ``start`` to ``stop`` - 1.

        Returns the pair's distribution [s, k, k] given the genotypes up to each site, and the probability [s] of each
        genotype given those before. ``before`` [k, k]: the distribution at the site before.
        """
        prior, independent = self.prior, np.outer(self.prior, self.prior)
        pair, pairs, scales = before, [], []
        for site in range(start, stop):
            kept, jump = self.stay[site], 1.0 - self.stay[site]
            # Neither switches, either does, both do; the matrix is symmetric.
            one = np.outer(pair.sum(axis=1), prior)
            joint = (kept**2 * pair + kept * jump * (one + one.T) + jump**2 * independent) * self.emission(site)
            scales.append(joint.sum())
            pair = joint / scales[-1]
            pairs.append(pair)
        return np.stack(pairs), np.array(scales)


def genotype_emission(genotype: int, alleles: Alleles, mismatch: float) -> Doubles:
    """[k, k]: probability of a genotype at one site, by the pair of haplotypes copied, which carry ``alleles`` [k].

    1 where the genotype is missing. The known allele of HALF_REF and HALF_ALT is that of either haplotype, each with
    probability 1/2.
    """
    alt = np.where(alleles > 0, 1.0 - mismatch, mismatch)  # copied as ALT
    first, second = alt[:, None], alt[None, :]
    half_alt = (first + second) / 2.0
    by_genotype = {
        0: (1.0 - first) * (1.0 - second),
        1: first * (1.0 - second) + (1.0 - first) * second,
        2: first * second,
        HALF_REF: 1.0 - half_alt,
        HALF_ALT: half_alt,
    }
    return by_genotype.get(genotype, np.ones_like(half_alt))


@compiled
def sample_pairs(
    given: UnphasedTargets,
    targets: Indices,
    max_classes: int,
    max_sites: int,
    max_bytes: int,
    likelihood: Doubles,
    out: Calls,
) -> None:
    """Fills the rows of ``targets`` in ``out`` [n, n_phasings, t, 2] and ``likelihood`` [n].

    ``out`` gets phased alleles, ``likelihood`` the log probability of the genotypes.

    The compiled twin cuts the sites into blocks of at most ``max_classes`` distinct haplotypes and ``max_sites`` sites,
    and keeps matrices of ``max_bytes``. This function keeps 2 sqrt(t) matrices.
    """
    t = len(given.genotypes)
    size = math.isqrt(max(t - 1, 0)) + 1
    spans = [(low, min(low + size, t)) for low in range(0, t, size)]
    for target in targets.tolist():
        prior = given.prior[target].astype(np.float64)
        alleles = given.panel_alleles[:, given.states[target]]
        problem = PairProblem(given.genotypes[:, target], alleles, prior, given.stay, given.mismatch)
        before, likelihood[target] = [np.outer(prior, prior)], 0.0
        for low, high in spans:
            pairs, scales = problem.forward(before[-1], low, high)
            before.append(pairs[-1])
            likelihood[target] += np.log(scales).sum()
        n_phasings = out.shape[1]
        randoms = [_SplitMix(_mixed(int(given.seeds[target]) ^ _mixed(index + 1))) for index in range(n_phasings)]
        copied = [(0, 0)] * n_phasings
        for (low, high), start in reversed(list(zip(spans, before[:-1], strict=True))):
            pairs, _ = problem.forward(start, low, high)
            for index, random in enumerate(randoms):
                copied[index] = _sample(problem, pairs, low, *copied[index], random, out[target, index])


def _sample(
    problem: PairProblem, pairs: Doubles, low: int, i: int, j: int, random: _SplitMix, out: Calls
) -> tuple[int, int]:
    """Samples ``out`` [t, 2] backwards over the sites from ``low`` on.

    ``pairs`` [sites, k, k]: the pair's distribution at these sites. The pair (i, j) is copied at the site after them.
    Returns the pair copied at ``low``.
    """
    prior = problem.prior
    for site in range(low + len(pairs) - 1, low - 1, -1):
        pair, stay, jump = pairs[site - low], problem.stay[site + 1], 1.0 - problem.stay[site + 1]
        one = pair.sum(axis=1)
        # Which of the two haplotypes switched between the sites: neither, the second, the first, or both.
        switched = random.chosen(
            np.array(
                [
                    stay**2 * pair[i, j],
                    stay * jump * prior[j] * one[i],
                    stay * jump * prior[i] * one[j],
                    jump**2 * prior[i] * prior[j],
                ]
            )
        )
        if switched == 3:
            i = random.chosen(one)
        if switched in (1, 3):
            j = random.chosen(pair[i])
        elif switched == 2:
            i = random.chosen(pair[j])
        known = int(problem.genotypes[site]), int(problem.alleles[site, i]), int(problem.alleles[site, j])
        out[site] = _sampled_alleles(*known, float(problem.mismatch[site]), random)
    return i, j


def _sampled_alleles(genotype: int, x: int, y: int, mismatch: float, random: _SplitMix) -> tuple[int, int]:
    """The two alleles of a genotype, given that haplotypes with alleles x and y are copied with errors."""

    def seen(allele: int, copied: int) -> float:
        return 1.0 - mismatch if allele == copied else mismatch

    if genotype == 1:
        return ((1, 0), (0, 1))[random.chosen(np.array([seen(1, x) * seen(0, y), seen(0, x) * seen(1, y)]))]
    if genotype in (HALF_REF, HALF_ALT):
        known = genotype - HALF_REF
        return ((known, MISSING), (MISSING, known))[random.chosen(np.array([seen(known, x), seen(known, y)]))]
    return (MISSING, MISSING) if genotype < 0 else (genotype // 2, genotype // 2)


class _SplitMix:
    """The generator SplitMix64 (Steele et al. 2014, OOPSLA)."""

    def __init__(self, state: int) -> None:
        self.state = state

    def chosen(self, masses: Doubles) -> int:
        """An index of ``masses``, with a probability in proportion to its mass. Takes one random number."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & _BITS
        uniform = (_mixed(self.state) >> 11) * 2.0**-53
        sums = np.cumsum(masses)
        return int(np.searchsorted(sums[:-1], uniform * sums[-1], side="right"))


def _mixed(z: int) -> int:
    """SplitMix64's output function."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _BITS
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _BITS
    return z ^ (z >> 31)
