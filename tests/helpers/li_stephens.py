"""The haploid HMM of Li and Stephens (2003, Genetics 165:2213) in float64: the textbook forward-backward algorithm.

Tests compare ``copying/haploid.py`` with it. It takes one target at a time and multiplies by a k x k transition matrix
at every site.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vcfbert.kernels import Alleles, Doubles, Floats, Indices


@dataclass(frozen=True)
class Problem:
    """One target haplotype over t typed sites, with k haplotypes to copy from."""

    observed: npt.NDArray[np.integer]  # [t], -1 where missing
    alleles: Alleles  # [t, k]
    prior: npt.NDArray[np.floating]  # [k], probability of each haplotype after a switch
    stay: npt.NDArray[np.floating]  # [t], probability of no switch before each site; the first is 0
    mismatch: npt.NDArray[np.floating]  # [t], probability that the observed allele differs from the copied one

    def without_call(self, site: int) -> Problem:
        observed = self.observed.copy()
        observed[site] = -1
        return replace(self, observed=observed)


def posteriors(problem: Problem) -> Doubles:
    """Posterior probability [t, k] that each haplotype is copied at each typed site."""
    t, k = problem.alleles.shape
    prior = problem.prior.astype(np.float64)
    seen = np.empty((t, k))
    for site, (observed, mismatch) in enumerate(
        zip(problem.observed, problem.mismatch.astype(np.float64), strict=True)
    ):
        seen[site] = np.where(problem.alleles[site] == observed, 1.0 - mismatch, mismatch) if observed >= 0 else 1.0
    moves = [stay * np.eye(k) + (1.0 - stay) * np.tile(prior, (k, 1)) for stay in problem.stay.astype(np.float64)]
    forward, backward = np.empty((t, k)), np.ones((t, k))
    forward[0] = prior * seen[0]
    for site in range(1, t):  # scaled, or probabilities of many sites would underflow
        forward[site] = (forward[site - 1] / forward[site - 1].sum()) @ moves[site] * seen[site]
    for site in range(t - 2, -1, -1):
        message = moves[site + 1] @ (seen[site + 1] * backward[site + 1])
        backward[site] = message / message.max()
    joint = forward * backward
    posterior: Doubles = joint / joint.sum(axis=1, keepdims=True)
    return posterior


def dosages(posterior: Doubles, alleles: Alleles, place: Indices, fraction: Floats) -> Doubles:
    """ALT probability [l] of the copied allele at l sites, of which some are typed.

    ``posterior`` [t, k]: at the typed sites. ``alleles`` [k, l] of the haplotypes. ``place`` [t]: index of each typed
    site among the l; it may lie beyond either end. ``fraction`` [l]: place of each site between its typed neighbours.
    Beyond the outermost typed site that site's copying probabilities hold.
    """
    out = np.empty(alleles.shape[1])
    for site in range(len(out)):
        right = int((place < site).sum())  # the first typed site at or beyond this one
        if right == 0:
            copied = posterior[0]
        elif right == len(place):
            copied = posterior[-1]
        else:
            copied = posterior[right - 1] + float(fraction[site]) * (posterior[right] - posterior[right - 1])
        out[site] = copied @ alleles[:, site]
    return out
