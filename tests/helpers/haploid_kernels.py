"""Arguments of the kernels that predict haplotypes, to compare their two implementations with each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.helpers.intervals import intervals_of
from tests.helpers.kernel_cases import KernelCase, kernels
from vcfbert.copying import haploid
from vcfbert.imputation import sample_means


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


def means(rng: np.random.Generator, *, s: int = 3, n: int = 4, l: int = 90, coupled: bool = True) -> tuple[Any, ...]:
    """Of the sites that are nearest to some of seven key sites."""
    first = np.concatenate([[0], np.sort(rng.integers(0, l + 1, 6)), [l]])
    phasings = sample_means.SampledPhasings(
        dosage=rng.random((5, l), dtype=np.float32),
        number=rng.integers(0, 5, (s, n, 2)),
        flipped=rng.integers(0, 2, (s, 7, n)).astype(np.uint8),
        samples=rng.permutation(n + 3)[:n],
    )
    haplotype, genotype = np.zeros((l, n + 3, 2), np.float32), np.zeros((l * coupled, n + 3, 3), np.float32)
    return np.arange(0, 7, 2), phasings, first, haplotype, genotype


def means_of_independent_haplotypes(rng: np.random.Generator) -> tuple[Any, ...]:
    return means(rng, s=1, coupled=False)


def means_at_one_site_of_one_sample(rng: np.random.Generator) -> tuple[Any, ...]:
    return means(rng, s=8, n=1, l=1)


def means_without_samples(rng: np.random.Generator) -> tuple[Any, ...]:
    return means(rng, n=0)


HAPLOID_CASES: list[KernelCase] = [
    (haploid.copy_targets, copied),
    (haploid.copy_targets, copied_of_one_head),
    (haploid.copy_targets, copied_of_two_heads_and_70_typed_sites),
    (haploid.copy_targets, copied_of_four_heads),
    (haploid.copy_targets, copied_of_two_states_in_a_span_of_one),
    (haploid.copy_targets, copied_for_no_target),
    (kernels()["fill_means"], means),
    (kernels()["fill_means"], means_of_independent_haplotypes),
    (kernels()["fill_means"], means_at_one_site_of_one_sample),
    (kernels()["fill_means"], means_without_samples),
]
