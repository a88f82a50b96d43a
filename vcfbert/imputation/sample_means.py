"""Predictions of samples as means over their sampled phasings."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from vcfbert.kernels import Alleles, Doubles, Floats, Indices, compiled, divide_among_threads

# Probabilities that a further thread is started for: it starts in the time in which they are read.
_READ_BY_THREAD: Final = 1 << 17


class SampledPhasings(NamedTuple):
    """s phasings of n samples, whose haplotypes are among u distinct ones."""

    dosage: Floats  # [u, l], ALT probabilities at a window's sites
    number: Indices  # [s, n, 2], the distinct haplotype
    flipped: Alleles  # [s, t, n], 1 where the two are in the other order at a key site
    samples: Indices  # [n], places of the samples in the output


def sites_nearest(cm: Doubles, key_cm: Doubles) -> Indices:
    """int64 [t + 1]: the first of the sites that lie nearest to each key site, and l.

    ``cm`` [l], ``key_cm`` [t]: genetic positions, ascending. Between two key sites equally near, the first counts.
    """
    key = np.searchsorted(key_cm, cm).clip(max=len(key_cm) - 1)
    left = (key - 1).clip(min=0)
    nearest = np.where(np.abs(cm - key_cm[left]) <= np.abs(key_cm[key] - cm), left, key)
    return np.searchsorted(nearest, np.arange(len(key_cm) + 1))


def fill_means(
    phasings: SampledPhasings, first: Indices, haplotype: Floats, genotype: Floats | None, *, threads: int = 1
) -> None:
    """Fills the samples' places in ``haplotype`` [l, N, 2] and ``genotype`` [l, N, 3] with means over the phasings.

    A phasing is oriented at each site as at the nearest key site; ``first`` [t + 1]: as of ``sites_nearest``.
    """
    coupled = np.empty((0, haplotype.shape[1], 3), np.float32) if genotype is None else genotype
    n_read = phasings.number.size * len(haplotype)

    def work(keys: Indices) -> None:
        _fill_means(keys, phasings, first, haplotype, coupled)

    divide_among_threads(work, len(first) - 1, min(threads, 1 + n_read // _READ_BY_THREAD))


@compiled
def _fill_means(keys: Indices, phasings: SampledPhasings, first: Indices, haplotype: Floats, genotype: Floats) -> None:
    """Fills the sites nearest to ``keys``. ``genotype`` has no sites if the haplotypes are independent."""
    for key in keys:
        sites = slice(first[key], first[key + 1])
        alt = phasings.dosage[phasings.number, sites]  # [s, n, 2, sites]
        flipped = phasings.flipped[:, key, :, None, None] == 1
        haplotype[sites, phasings.samples] = np.where(flipped, alt[:, :, ::-1], alt).mean(axis=0).transpose(2, 0, 1)
        if len(genotype):
            both = alt.prod(axis=2).mean(axis=0)
            either = alt.sum(axis=2).mean(axis=0) - both
            genotype[sites, phasings.samples] = np.stack([1.0 - either, either - both, both]).transpose(2, 1, 0)
