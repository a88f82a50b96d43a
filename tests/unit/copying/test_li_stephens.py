"""The textbook algorithm against the sum over every path."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.helpers.li_stephens import dosages
from vcfbert.copying.li_stephens import Problem, posteriors
from vcfbert.kernels import Doubles


def enumerated(given: Problem) -> Doubles:
    """Posteriors [t, k] by the sum over every path."""
    t, k = given.alleles.shape
    posterior = np.zeros((t, k))
    for path in product(range(k), repeat=t):
        value = 1.0
        for site, state in enumerate(path):
            kept = float(given.stay[site])
            value *= (1 - kept) * given.prior[state] + (kept if site and path[site - 1] == state else 0.0)
            if given.observed[site] >= 0:
                differs = given.observed[site] != given.alleles[site, state]
                value *= given.mismatch[site] if differs else 1 - given.mismatch[site]
        posterior[np.arange(t), path] += value
    return posterior / posterior[0].sum()


@pytest.mark.parametrize("t", [1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_posteriors_equal_enumeration(t: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    given = Problem(
        observed=rng.integers(-1, 2, t),
        alleles=rng.integers(0, 2, (t, 3)).astype(np.uint8),
        prior=rng.dirichlet(np.ones(3)),
        stay=np.append(0.0, rng.uniform(0.3, 1.0, t - 1)),
        mismatch=rng.uniform(0.01, 0.2, t),
    )
    np.testing.assert_allclose(posteriors(given), enumerated(given), atol=1e-12)


def test_dosages_by_hand() -> None:
    """Two haplotypes; typed are sites 1 and 3 of five."""
    posterior = np.array([[1.0, 0.0], [0.5, 0.5]])
    alleles = np.array([[1, 1, 1, 0, 1], [0, 0, 0, 1, 0]], np.uint8)
    fraction = np.array([1.0, 1.0, 0.25, 1.0, 0.0], np.float32)
    found = dosages(posterior, alleles, np.array([1, 3]), fraction)
    np.testing.assert_allclose(found, [1.0, 1.0, 0.875, 0.5, 0.5])
