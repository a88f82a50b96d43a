"""Exact likelihoods and posteriors of the diploid Li-Stephens HMM (``copying/pair_hmm.py``), one target at a time."""

from __future__ import annotations

import numpy as np

from vcfbert.copying.pair_hmm import PairProblem
from vcfbert.kernels import Doubles


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
    return problem.forward(np.outer(problem.prior, problem.prior), 0, len(problem))
