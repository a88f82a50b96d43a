"""The haploid HMM of Li and Stephens (2003, Genetics 165:2213): the textbook forward-backward algorithm in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vcfbert.kernels import Alleles, Doubles


@dataclass(frozen=True)
class Problem:
    """One target haplotype over t typed sites, with k haplotypes to copy from."""

    observed: npt.NDArray[np.integer]  # [t], -1 where missing
    alleles: Alleles  # [t, k]
    prior: npt.NDArray[np.floating]  # [k], probability of each haplotype after a switch
    stay: npt.NDArray[np.floating]  # [t], probability of no switch before each site
    mismatch: npt.NDArray[np.floating]  # [t], probability that the observed allele differs from the copied one


def posteriors(problem: Problem) -> Doubles:
    """Posterior probability [t, k] that each haplotype is copied at each typed site."""
    t, k = problem.alleles.shape
    prior, stay = problem.prior.astype(np.float64), problem.stay.astype(np.float64)[:, None]
    observed, mismatch = problem.observed[:, None], problem.mismatch.astype(np.float64)[:, None]
    seen = np.where(observed < 0, 1.0, np.where(problem.alleles == observed, 1.0 - mismatch, mismatch))
    forward, backward = np.empty((t, k)), np.ones((t, k))
    message = prior
    for site in range(t):  # scaled, or probabilities of many sites would underflow
        message = (stay[site] * message + (1.0 - stay[site]) * prior) * seen[site]
        message /= message.sum()
        forward[site] = message
    for site in range(t - 2, -1, -1):
        message = seen[site + 1] * backward[site + 1]
        message /= message @ prior
        backward[site] = stay[site + 1] * message + (1.0 - stay[site + 1])
    joint = forward * backward
    posterior: Doubles = joint / joint.sum(axis=1, keepdims=True)
    return posterior
