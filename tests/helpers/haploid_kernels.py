"""Arguments of the kernels of ``copying/haploid.py``, for the contract of kernels."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from tests.helpers.intervals import intervals_of
from vcfbert.copying import haploid


def copied(
    rng: np.random.Generator,
    *,
    heads: int = 3,
    t: int = 9,
    n: int = 3,
    k: int = 7,
    r: int = 9,
    l: int = 40,
    span: int = 4,
) -> tuple[Any, ...]:
    """Calls of which a fifth is missing, at typed sites inside the window and beyond either end."""
    place = np.sort(rng.permutation(l + 10)[:t]) - 5
    mixture = rng.dirichlet(np.ones(heads), size=l).T.astype(np.float32)
    fraction = rng.random(l, dtype=np.float32)
    stay = rng.uniform(0.5, 1.0, (heads, t)).astype(np.float32)
    mismatch = rng.uniform(0.001, 0.2, (heads, t)).astype(np.float32)
    hmm = haploid.Hmm(
        observed=rng.choice(np.array([-1, 0, 0, 1, 1], np.int8), (n, t)),
        alleles=rng.integers(0, 2, (t, r)).astype(np.uint8),
        states=np.stack([rng.permutation(r)[:k] for _ in range(n)]).astype(np.int32),
        prior=rng.dirichlet(np.ones(k), size=n).astype(np.float32),
        stay=stay,
        mismatch=mismatch,
        key_mixture=np.ascontiguousarray(rng.dirichlet(np.ones(heads), size=t).T.astype(np.float32)),
    )
    intervals = intervals_of((rng.random((r, l)) < 0.3).astype(np.uint8), place)
    decoder = haploid.Decoder.of(intervals, mixture, fraction)
    dosage, loo = np.zeros((n, l), np.float32), np.zeros((n, t), np.float32)
    return np.arange(0, n, 2), hmm, decoder, span, 0.0, dosage, loo


def copied_of_one_head(rng: np.random.Generator) -> tuple[Any, ...]:
    return copied(rng, heads=1, k=8)


def copied_of_two_heads_and_70_typed_sites(rng: np.random.Generator) -> tuple[Any, ...]:
    return copied(rng, heads=2, k=17, r=30, l=90, t=70, span=9)


def copied_of_four_heads(rng: np.random.Generator) -> tuple[Any, ...]:
    return copied(rng, heads=4, k=1, n=1, t=1)


def copied_of_two_states_in_a_span_of_one(rng: np.random.Generator) -> tuple[Any, ...]:
    return copied(rng, k=2, t=33, span=1)


def copied_for_no_target(rng: np.random.Generator) -> tuple[Any, ...]:
    return np.arange(0), *copied(rng)[1:]


HAPLOID_CASES: Final = [
    (haploid._copy_targets, copied),
    (haploid._copy_targets, copied_of_one_head),
    (haploid._copy_targets, copied_of_two_heads_and_70_typed_sites),
    (haploid._copy_targets, copied_of_four_heads),
    (haploid._copy_targets, copied_of_two_states_in_a_span_of_one),
    (haploid._copy_targets, copied_for_no_target),
]
