from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tests.helpers.pair_hmm import copying_posteriors, log_likelihood, pair_posteriors
from vcfbert.constants import HALF_ALT, HALF_REF, MISSING
from vcfbert.copying.pair_hmm import PairProblem, genotype_emission
from vcfbert.kernels import Doubles


def problem(*, t: int, k: int = 3, seed: int = 0) -> PairProblem:
    """Random genotypes of every kind and an uneven prior."""
    rng = np.random.default_rng(seed)
    return PairProblem(
        genotypes=rng.integers(MISSING, HALF_ALT + 1, t),
        alleles=rng.integers(0, 2, (t, k)).astype(np.uint8),
        prior=rng.dirichlet(np.ones(k)),
        stay=np.append(0.0, rng.uniform(0.3, 1.0, t - 1)),
        mismatch=rng.uniform(0.01, 0.2, t),
    )


def probability_of_genotype(genotype: int, first: int, second: int, mismatch: float) -> float:
    """The sum over the alleles seen of both haplotypes, by the definition of the model."""
    if genotype < 0:
        return 1.0
    total = 0.0
    for x, y in product((0, 1), repeat=2):
        seen = float(x + y == genotype)
        if genotype in (HALF_REF, HALF_ALT):
            known = genotype - HALF_REF
            seen = ((x == known) + (y == known)) / 2
        total += seen * (1 - mismatch if x == first else mismatch) * (1 - mismatch if y == second else mismatch)
    return total


def enumerated(given: PairProblem) -> tuple[Doubles, float]:
    """Pair posteriors [t, k, k] and the log likelihood, by the sum over every pair of paths."""
    t, k = given.alleles.shape
    posterior = np.zeros((t, k, k))
    paths = list(product(range(k), repeat=t))

    def probability(path: tuple[int, ...]) -> float:
        value = 1.0
        for site, state in enumerate(path):
            kept = float(given.stay[site])
            value *= (1 - kept) * given.prior[state] + (kept if site and path[site - 1] == state else 0.0)
        return value

    own = {path: probability(path) for path in paths}
    for first, second in product(paths, repeat=2):
        value = own[first] * own[second]
        for site in range(t):
            alleles = int(given.alleles[site, first[site]]), int(given.alleles[site, second[site]])
            value *= probability_of_genotype(int(given.genotypes[site]), *alleles, float(given.mismatch[site]))
        for site in range(t):
            posterior[site, first[site], second[site]] += value
    total = posterior[0].sum()
    return posterior / total, float(np.log(total))


@pytest.mark.parametrize("t", [1, 2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_pair_posteriors_equal_enumeration(t: int, seed: int) -> None:
    given = problem(t=t, seed=seed)
    expected, total = enumerated(given)
    np.testing.assert_allclose(pair_posteriors(given), expected, atol=1e-12)
    assert log_likelihood(given) == pytest.approx(total, rel=1e-12)


def test_copying_posteriors_equal_row_sums() -> None:
    given = problem(t=11, k=5)
    pairs, copies = pair_posteriors(given), copying_posteriors(given)
    for axis in (1, 2):
        np.testing.assert_allclose(copies, pairs.sum(axis=axis), atol=1e-12)
    np.testing.assert_allclose(copies.sum(axis=1), 1.0, atol=1e-12)


def test_pair_posteriors_of_reversed_problem_are_equal() -> None:
    """The chain is reversible, because every transition keeps the prior."""
    given = problem(t=10)
    flipped = replace(
        given,
        genotypes=given.genotypes[::-1],
        alleles=given.alleles[::-1],
        stay=np.append(0.0, given.stay[:0:-1]),
        mismatch=given.mismatch[::-1],
    )
    np.testing.assert_allclose(pair_posteriors(given), pair_posteriors(flipped)[::-1], atol=1e-12)


def test_emission_by_hand() -> None:
    """Mismatch 0.1: REF/REF gives 0, 1, 2 with probabilities 0.81, 0.18, 0.01, and REF/ALT with 0.09, 0.82, 0.09. The
    known allele of a half call comes from either haplotype."""
    genotypes = (0, 1, 2, MISSING, HALF_REF, HALF_ALT)
    seen = np.stack([genotype_emission(genotype, np.array([0, 1], np.uint8), 0.1) for genotype in genotypes])
    np.testing.assert_allclose(seen[:, 0, 0], [0.81, 0.18, 0.01, 1.0, 0.9, 0.1], atol=1e-12)
    np.testing.assert_allclose(seen[:, 0, 1], [0.09, 0.82, 0.09, 1.0, 0.5, 0.5], atol=1e-12)
    np.testing.assert_allclose(seen[:, 1, 0], seen[:, 0, 1])
    np.testing.assert_allclose(seen[:, 1, 1], [0.01, 0.18, 0.81, 1.0, 0.1, 0.9], atol=1e-12)
