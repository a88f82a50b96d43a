"""The diploid Li-Stephens HMM of unphased genotypes in float64: forward and backward over pairs of copied haplotypes.

A target's two haplotypes copy independently, each as in ``li_stephens.py``, and the genotype is the sum of their
alleles (Li and Stephens 2003, Genetics 165:2213; Marchini et al. 2007, Nat. Genet. 39:906). Transitions factorise, so
the time a site takes grows with k^2, not k^4. Tests compare ``copying/diploid.py`` with it, one target at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vcfbert.constants import HALF_ALT, HALF_REF
from vcfbert.kernels import Alleles, Doubles


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


def log_likelihood(problem: PairProblem) -> float:
    """Log probability of the genotypes."""
    return float(np.log(_forward(problem)[1]).sum())


def pair_posteriors(problem: PairProblem) -> Doubles:
    """Posterior probability [t, k, k] of the two haplotypes copied. It is symmetric in the two."""
    prior = problem.prior
    message = np.ones((len(prior), len(prior)))  # of the genotypes after a site, scaled so that its prior mean is 1
    posterior, _ = _forward(problem)
    for site in range(len(problem) - 1, -1, -1):
        posterior[site] *= message
        posterior[site] /= posterior[site].sum()
        seen = problem.emission(site) * message
        kept, jump = problem.stay[site], 1.0 - problem.stay[site]
        one = (seen @ prior)[:, None]  # expected where the second haplotype has switched
        both = prior @ seen @ prior
        message = (kept**2 * seen + kept * jump * (one + one.T)) / both + jump**2
    return posterior


def copying_posteriors(problem: PairProblem) -> Doubles:
    """[t, k]: expected copies of each haplotype among the target's two, halved.

    The expected dosage at a site is twice the product of this with the haplotypes' alleles.
    """
    return pair_posteriors(problem).sum(axis=2)


def _forward(problem: PairProblem) -> tuple[Doubles, Doubles]:
    """The pair's distribution [t, k, k] given the genotypes up to each site, and the probability [t] of each genotype
    given those before."""
    prior = problem.prior
    independent = np.outer(prior, prior)
    pair, pairs, scales = independent, [], []
    for site in range(len(problem)):
        kept, jump = problem.stay[site], 1.0 - problem.stay[site]
        # Neither switches, either does, both do; the matrix is symmetric.
        one = np.outer(pair.sum(axis=1), prior)
        joint = (kept**2 * pair + kept * jump * (one + one.T) + jump**2 * independent) * problem.emission(site)
        scales.append(joint.sum())
        pair = joint / scales[-1]
        pairs.append(pair)
    return np.stack(pairs), np.array(scales)
