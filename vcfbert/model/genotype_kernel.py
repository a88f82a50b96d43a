"""ALT and genotype probabilities of pairs of haplotypes without gradient on the CPU, in compiled code."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from vcfbert.kernels import Floats, Indices, compiled, divide_among_threads

_STRIP: Final = 16  # sites that the compiled code does at once, COLUMNS of strips.h


class GenotypeHeadWeights(NamedTuple):
    """The hidden layer and the output layer of ``GenotypeHead``; m, the hidden width, is a multiple of four."""

    of_sum: Floats  # [m, dims], applied to the sum of the two haplotypes' features
    of_difference: Floats  # [m, dims], applied to their absolute difference
    of_site: Floats  # [l, m], what depends on the site alone
    coupling: Floats  # [m], of the output layer
    constant: Floats  # [1], its bias


def predict_pairs(
    features: Floats, logit: Floats, pairs: Indices, head: GenotypeHeadWeights, *, threads: int
) -> tuple[Floats, Floats]:
    """Probabilities of ALT [l, n, 2] and of 0, 1, 2 ALT alleles [l, n, 3].

    ``features`` [u, l, dims] and ALT ``logit`` [u, l] of u haplotypes. ``pairs`` [n, 2]: the two of each sample.
    """
    l, n = features.shape[1], len(pairs)
    haplotype, genotype = np.empty((l, n, 2), np.float32), np.empty((l, n, 3), np.float32)

    def work(strips: Indices) -> None:
        _predict_pairs(strips, features, logit, pairs, head, haplotype, genotype)

    divide_among_threads(work, -(-l // _STRIP), threads)
    return haplotype, genotype


@compiled
def _predict_pairs(
    strips: Indices,
    features: Floats,
    logit: Floats,
    pairs: Indices,
    head: GenotypeHeadWeights,
    haplotype: Floats,
    genotype: Floats,
) -> None:
    """Fills the sites of the ``strips``; ``heads.couple`` says what the three probabilities are."""
    for strip in strips:
        sites = slice(_STRIP * strip, _STRIP * (strip + 1))
        both = features[pairs, sites]  # [n, 2, sites, dims]
        x = both.sum(axis=1) @ head.of_sum.T + head.of_site[sites]
        x += np.abs(both[:, 0] - both[:, 1]) @ head.of_difference.T
        x *= 0.5 + 0.5 * np.vectorize(math.erf, [np.float32])(x / math.sqrt(2.0))  # GELU
        coupling = np.tanh(x @ head.coupling + head.constant)
        p, q = alt = (0.5 + 0.5 * np.tanh(0.5 * logit[pairs, sites])).swapaxes(0, 1)  # [2, n, sites]
        rise, fall = np.minimum(p * (1 - q), (1 - p) * q), np.minimum(p * q, (1 - p) * (1 - q))
        c = coupling * np.where(coupling >= 0, rise, fall)
        haplotype[sites] = alt.transpose(2, 1, 0)
        counts = np.stack([(1 - p) * (1 - q) + c, p * (1 - q) + (1 - p) * q - 2 * c, p * q + c])
        genotype[sites] = counts.transpose(2, 1, 0)
