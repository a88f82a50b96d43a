"""Arguments of the kernel that samples phasings, for the contract of compiled twins."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.helpers.kernel_cases import KernelCase
from vcfbert.constants import HALF_ALT, MISSING
from vcfbert.copying import pair_hmm


def unphased(rng: np.random.Generator, t: int, n: int, k: int, *, classes: int, bytes_kept: int) -> tuple[Any, ...]:
    """Genotypes of every kind. Three phasings are sampled of all targets but the first."""
    stay = np.append(rng.uniform(0.6, 1.0, t), 0.0)
    stay[0] = 0.0
    given = pair_hmm.UnphasedTargets(
        rng.integers(MISSING, HALF_ALT + 1, (t, n)).astype(np.int8),
        rng.integers(0, 2, (t, k + 3), dtype=np.uint8),
        np.stack([rng.permutation(k + 3)[:k] for _ in range(n)]).astype(np.int32),
        rng.dirichlet(np.ones(k), size=n).astype(np.float32),
        stay,
        rng.uniform(0.01, 0.2, t),
        rng.integers(0, 2**64, n, dtype=np.uint64),
    )
    out = np.zeros((n, 3, t, 2), np.int8)
    return given, np.arange(1, n), classes, 7, bytes_kept, np.zeros(n), out


def unphased_in_one_span(rng: np.random.Generator) -> tuple[Any, ...]:
    return unphased(rng, 40, 3, 21, classes=8, bytes_kept=10**6)


def unphased_in_many_spans(rng: np.random.Generator) -> tuple[Any, ...]:
    return unphased(rng, 40, 2, 16, classes=3, bytes_kept=1)


def unphased_in_many_classes(rng: np.random.Generator) -> tuple[Any, ...]:
    return unphased(rng, 30, 2, 45, classes=21, bytes_kept=10**6)


def unphased_with_one_state(rng: np.random.Generator) -> tuple[Any, ...]:
    return unphased(rng, 5, 2, 1, classes=8, bytes_kept=10**6)


def unphased_at_one_site(rng: np.random.Generator) -> tuple[Any, ...]:
    return unphased(rng, 1, 3, 9, classes=2, bytes_kept=10**6)


def unphased_without_targets(rng: np.random.Generator) -> tuple[Any, ...]:
    return unphased(rng, 4, 1, 9, classes=8, bytes_kept=10**6)


PAIR_CASES: list[KernelCase] = [
    (pair_hmm.sample_pairs, unphased_in_one_span),
    (pair_hmm.sample_pairs, unphased_in_many_spans),
    (pair_hmm.sample_pairs, unphased_in_many_classes),
    (pair_hmm.sample_pairs, unphased_with_one_state),
    (pair_hmm.sample_pairs, unphased_at_one_site),
    (pair_hmm.sample_pairs, unphased_without_targets),
]
