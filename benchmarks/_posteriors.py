"""Exact copying probabilities of the haploid HMM, over any haplotypes; ``vcfbert`` itself needs their sums alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def posteriors(
    observed: npt.NDArray[np.int8], alleles: npt.NDArray[np.uint8], stay: Floats, mismatch: float, prior: Floats
) -> Floats:
    """Posterior probability [t, n, k] that each of n targets copies each of its k haplotypes at t typed sites.

    ``observed`` [t, n]: -1 where missing. ``alleles`` [t, k] of the haplotypes, or [t, n, k] if each target has its
    own. ``stay`` [t]: probability of no switch before each site, 0 at the first. ``prior`` [n, k]: rows sum to 1.
    """
    t, n = observed.shape
    kept, moved = stay.astype(np.float32), (1.0 - stay).astype(np.float32)

    def seen(site: int) -> Floats:
        calls = observed[site][:, None]
        probability = np.where(alleles[site] == calls, np.float32(1.0 - mismatch), np.float32(mismatch))
        return np.where(calls < 0, np.float32(1.0), probability)

    found = np.empty((t, n, prior.shape[1]), dtype=np.float32)
    forward = prior
    for site in range(t):
        forward = (kept[site] * forward + moved[site] * prior) * seen(site)
        forward = forward / forward.sum(axis=1, keepdims=True)
        found[site] = forward
    message = np.ones_like(prior)
    for site in range(t - 1, -1, -1):
        found[site] *= message
        found[site] /= found[site].sum(axis=1, keepdims=True)
        later = seen(site) * message
        message = kept[site] * later / (prior * later).sum(axis=1, keepdims=True) + moved[site]
    return found
