"""Features and ALT logits of haplotypes by V18 without gradient on the CPU, in compiled code and without torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vcfbert.constants import MASK_TOKEN
from vcfbert.kernels import Alleles, Calls, Floats, Indices, compiled, divide_among_threads
from vcfbert.model.encoder_kernel import EncoderWeights, encode_sequences


class V18Weights(NamedTuple):
    """Weights of V18 around its encoder, of ``dims`` features and r retrieval heads."""

    evidence: Floats  # [dims, 3 * r], applied to each head's fraction, its standard deviation and the log of its number
    mixture: Floats  # [r], each head's share of the ALT fraction
    smoothing: Floats  # [1], the panel frequency's share
    correction: Floats  # [dims], of the haplotype head
    constant: Floats  # [1], its bias


class V18Window(NamedTuple):
    """A window of l sites with t key sites, and m reference haplotypes."""

    table: Floats  # [N_TOKENS, l, dims], what each token gives to the encoder's input; the last one is MASK
    pooled: Floats  # [l, dims], what the ALT fraction gives to it
    af: Floats  # [l], the panel's ALT frequency
    key_weights: Floats  # [r, t], the cost of a mismatch for each head
    key_alleles: Floats  # [m, t], 0 or 1
    alleles: Alleles  # [m, l]


class V18Queries(NamedTuple):
    """n haplotypes to predict."""

    tokens: Alleles  # [n, l], MASK where untyped
    sign: Calls  # [n, t], the typed alleles: 1 REF, -1 ALT, 0 unknown
    rows: Indices  # [n, k], the retrieved reference haplotypes


def run_v18(
    window: V18Window, queries: V18Queries, network: V18Weights, encoder: EncoderWeights, heads: int, *, threads: int
) -> tuple[Floats, Floats]:
    """Features [n, l, dims] and ALT logits [n, l]. ``heads``: attention heads of the encoder."""
    n, l = queries.tokens.shape
    features, logit = np.empty((n, l, window.table.shape[2]), np.float32), np.empty((n, l), np.float32)

    def work(sequences: Indices) -> None:
        _run_v18(sequences, window, queries, network, encoder, heads, features, logit)

    divide_among_threads(work, n, threads)
    return features, logit


@compiled
def _run_v18(
    sequences: Indices,
    window: V18Window,
    queries: V18Queries,
    network: V18Weights,
    encoder: EncoderWeights,
    heads: int,
    features: Floats,
    logit: Floats,
) -> None:
    """Fills the ``sequences``; ``V18.features`` is the same in torch."""
    sites = np.arange(len(window.af))
    share, af = network.smoothing, window.af.clip(1e-4, 1.0 - 1e-4)
    for i in sequences:
        rows, (r, k) = queries.rows[i], (len(network.mixture), queries.rows.shape[1])
        if k:
            distance = (queries.sign[i] * window.key_weights) @ window.key_alleles[rows].T  # [r, k]
            weight = np.exp(distance.min(axis=1, keepdims=True) - distance)
            weight /= weight.sum(axis=1, keepdims=True)
            fractions = weight @ window.alleles[rows]  # [r, l]
            squares = np.square(weight).sum(axis=1)
        else:
            fractions, squares = np.tile(window.af, (r, 1)), np.zeros(r)
        log_count = np.tile(-np.log(squares.clip(1e-6))[:, None] / 4.0, len(sites))
        spread = np.sqrt((fractions * (1.0 - fractions)).clip(1e-6))
        fraction = network.mixture @ fractions  # [l]
        x = window.table[queries.tokens[i], sites] + fraction[:, None] * window.pooled
        x += np.concatenate([fractions, spread, log_count]).T @ network.evidence.T
        features[i] = encode_sequences(x[None].astype(np.float32), encoder, heads)[0]
        alt = ((1.0 - share) * fraction + share * af).clip(1e-6, 1.0 - 1e-6)
        logit[i] = np.log(alt / (1.0 - alt)) + features[i] @ network.correction + network.constant


def tokens_of(alleles: Calls, typed: Indices, l: int) -> Alleles:
    """Tokens [n, l] of ``alleles`` [n, m] at the sites ``typed`` [m] of a window of l sites."""
    tokens = np.full((len(alleles), l), MASK_TOKEN, np.uint8)
    tokens[:, typed] = np.where(alleles < 0, MASK_TOKEN, alleles + 1)
    return tokens
