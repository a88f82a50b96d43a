"""Arguments of the kernels of V17 and V18, for the contract suite."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.helpers.kernel_cases import KernelCase, kernels
from vcfbert.constants import MASK_TOKEN, N_TOKENS
from vcfbert.kernels import Floats
from vcfbert.model import encoder_kernel, genotype_kernel, v18_kernel


def weights(rng: np.random.Generator, layers: int, dims: int, m: int) -> encoder_kernel.EncoderWeights:
    def normal(*shape: int) -> Floats:
        return (rng.standard_normal((layers, *shape)) / np.sqrt(shape[-1])).astype(np.float32)

    return encoder_kernel.EncoderWeights(
        normal(2, dims),
        *(normal(3 * dims, dims), normal(3 * dims)),
        *(normal(dims, dims), normal(dims)),
        normal(2, dims),
        *(normal(m, dims), normal(m)),
        *(normal(dims, m), normal(dims)),
        np.ascontiguousarray(normal(2, dims)[0]),
    )


def sequences(rng: np.random.Generator) -> tuple[Any, ...]:
    heads = int(rng.integers(1, 4))
    dims, layers, l = heads * int(rng.integers(1, 10)), int(rng.integers(1, 4)), int(rng.integers(1, 70))
    x = 3.0 * rng.standard_normal((5, l, dims), dtype=np.float32)
    some = np.array([0, 3, 4])
    return some, x, weights(rng, layers, dims, int(rng.integers(1, 40))), heads, np.zeros_like(x)


def sequences_of_large_scores(rng: np.random.Generator) -> tuple[Any, ...]:
    """Most attention weights vanish, and GELU is far from 0 on both sides."""
    given = weights(rng, 2, 8, 16)
    wide = given._replace(projection=10.0 * given.projection, mlp_in=10.0 * given.mlp_in)
    x = rng.standard_normal((2, 33, 8), dtype=np.float32)
    return np.arange(2), x, wide, 2, np.zeros_like(x)


def sequences_with_nan(rng: np.random.Generator) -> tuple[Any, ...]:
    """A single NaN reaches all features of its sequence by attention, and none of the others."""
    x = rng.standard_normal((3, 33, 8), dtype=np.float32)
    x[1, rng.integers(33), rng.integers(8)] = np.nan
    return np.arange(3), x, weights(rng, 2, 8, 16), 2, np.zeros_like(x)


def pairs_of(rng: np.random.Generator, scale: float) -> tuple[Any, ...]:
    u, l, dims, m, n = 7, int(rng.integers(20, 60)), int(rng.integers(1, 12)), 4 * int(rng.integers(1, 5)), 9

    def normal(*shape: int) -> Floats:
        return np.float32(scale) * rng.standard_normal(shape, dtype=np.float32)

    head = genotype_kernel.GenotypeHeadWeights(normal(m, dims), normal(m, dims), normal(l, m), normal(m), normal(1))
    strips = np.array([1, 0]) if l <= 32 else np.array([2, 0])
    out = np.zeros((l, n, 2), np.float32), np.zeros((l, n, 3), np.float32)
    return strips, normal(u, l, dims), 8 * normal(u, l), rng.integers(u, size=(n, 2)), head, *out


def pairs(rng: np.random.Generator) -> tuple[Any, ...]:
    return pairs_of(rng, 0.5)


def pairs_of_certain_haplotypes(rng: np.random.Generator) -> tuple[Any, ...]:
    return pairs_of(rng, 10.0)


def pairs_with_nan_in_one_haplotype(rng: np.random.Generator) -> tuple[Any, ...]:
    given = pairs(rng)
    given[1][3, rng.integers(16)] = np.nan
    return given


def pairs_with_nan_in_the_coupling(rng: np.random.Generator) -> tuple[Any, ...]:
    given = pairs(rng)
    given[4].constant[0] = np.nan
    return given


def v18_queries(rng: np.random.Generator) -> tuple[Any, ...]:
    return v18_of(rng, k=int(rng.integers(1, 20)))


def v18_queries_without_retrieval(rng: np.random.Generator) -> tuple[Any, ...]:
    return v18_of(rng, k=0)


def v18_of(rng: np.random.Generator, k: int) -> tuple[Any, ...]:
    n, m, r, heads = 4, 30, int(rng.integers(1, 5)), int(rng.integers(1, 3))
    dims, l, t = heads * int(rng.integers(1, 10)), int(rng.integers(1, 70)), int(rng.integers(0, 40))

    def normal(*shape: int) -> Floats:
        return rng.standard_normal(shape, dtype=np.float32)

    window = v18_kernel.V18Window(
        *(normal(N_TOKENS, l, dims), normal(l, dims)),
        *(rng.random(l, dtype=np.float32), rng.random((r, t), dtype=np.float32)),
        *(rng.integers(2, size=(m, t)).astype(np.float32), rng.integers(2, size=(m, l), dtype=np.uint8)),
    )
    tokens = np.where(rng.random((n, l)) < 0.1, rng.integers(1, MASK_TOKEN, size=(n, l)), MASK_TOKEN).astype(np.uint8)
    sign = rng.integers(-1, 2, size=(n, t), dtype=np.int8)
    queries = v18_kernel.V18Queries(tokens, sign, rng.integers(m, size=(n, k)))
    mixture = rng.dirichlet(np.ones(r)).astype(np.float32)
    smoothing = np.array([0.02], np.float32)
    network = v18_kernel.V18Weights(normal(dims, 3 * r), mixture, smoothing, normal(dims), normal(1))
    out = np.zeros((n, l, dims), np.float32), np.zeros((n, l), np.float32)
    return np.array([0, 1, 3]), window, queries, network, weights(rng, 2, dims, 16), heads, *out


NETWORK_CASES: list[KernelCase] = [
    (kernels()["encode"], sequences),
    (kernels()["encode"], sequences_of_large_scores),
    (kernels()["encode"], sequences_with_nan),
    (kernels()["predict_pairs"], pairs),
    (kernels()["predict_pairs"], pairs_of_certain_haplotypes),
    (kernels()["predict_pairs"], pairs_with_nan_in_one_haplotype),
    (kernels()["predict_pairs"], pairs_with_nan_in_the_coupling),
    (kernels()["run_v18"], v18_queries),
    (kernels()["run_v18"], v18_queries_without_retrieval),
]
