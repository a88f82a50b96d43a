"""Mixture weights of least squared error: statistics by hand, known mixtures recovered, noise not fitted."""

from __future__ import annotations

import numpy as np

from vcfbert.kernels import Doubles, Floats
from vcfbert.training.mixture_weights import SufficientStatistics, better_weights, least_error

EVEN = np.full((2, 3), 1 / 3)
KNOWN = np.array([[0.7, 0.3, 0.0], [0.1, 0.2, 0.7]])


def mixed(weights: Doubles, dosage: Floats, knots: Doubles) -> Doubles:
    """The mixture [n, l] of the heads' ``dosage`` [heads, n, l]."""
    mixture: Doubles = np.einsum("lk,ki,inl->nl", knots, weights, dosage, dtype=np.float64)
    return mixture


def statistics(dosage: Floats, truth: Doubles, knots: Doubles) -> SufficientStatistics:
    """Here the true genotypes need not be whole numbers."""
    return SufficientStatistics.of(dosage, truth, knots)  # type: ignore[arg-type]


def sampled(weights: Doubles, *, n: int, sites: int, noise: float, seed: int) -> SufficientStatistics:
    """Statistics of random dosages of three heads and their mixture by ``weights`` [2, 3] with noise."""
    rng = np.random.default_rng(seed)
    dosage = rng.random((3, n, sites), dtype=np.float32)
    low = rng.random(sites)
    knots = np.stack([low, 1.0 - low], axis=1)
    return statistics(dosage, mixed(weights, dosage, knots) + noise * rng.standard_normal((n, sites)), knots)


def test_error_equals_squared_error_of_mixture() -> None:
    rng = np.random.default_rng(1)
    dosage, truth, knots = rng.random((3, 4, 5), dtype=np.float32), rng.random((4, 5)), rng.random((5, 2))
    expected = np.square(mixed(KNOWN, dosage, knots) - truth).sum()
    np.testing.assert_allclose(statistics(dosage, truth, knots).error(KNOWN), expected, rtol=1e-6)
    halves = statistics(dosage[:, :1], truth[:1], knots) + statistics(dosage[:, 1:], truth[1:], knots)
    np.testing.assert_allclose(halves.error(KNOWN), expected, rtol=1e-6)


def test_least_error_recovers_known_mixture() -> None:
    found = least_error(sampled(KNOWN, n=20, sites=200, noise=0.0, seed=2), EVEN)
    np.testing.assert_allclose(found, KNOWN, atol=0.01)


def test_least_error_gives_rows_that_sum_to_one() -> None:
    found = least_error(sampled(KNOWN, n=5, sites=20, noise=0.5, seed=8), EVEN)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-12)
    assert (found >= 0.0).all()


def test_knot_without_sites_keeps_start() -> None:
    dosage = np.random.default_rng(3).random((3, 4, 9), dtype=np.float32)
    knots = np.broadcast_to(np.array([[1.0, 0.0]]), (9, 2))
    found = least_error(statistics(dosage, np.zeros((4, 9)), knots), KNOWN)
    np.testing.assert_allclose(found[1], KNOWN[1])
    assert not np.allclose(found[0], KNOWN[0], atol=0.01)


def test_better_weights_with_gain_on_other_half_keeps_fit() -> None:
    halves = (
        sampled(KNOWN, n=20, sites=100, noise=0.1, seed=4),
        sampled(KNOWN, n=20, sites=100, noise=0.1, seed=5),
    )
    weights, gain = better_weights(halves, EVEN)
    np.testing.assert_allclose(weights, KNOWN, atol=0.1)
    assert 0.05 < gain < 1.0


def test_better_weights_of_noise_keeps_start() -> None:
    """The noise of one half is the opposite of the other's, so a fit to either is worse than the start on the other."""
    halves = (
        sampled(EVEN, n=4, sites=10, noise=1.0, seed=6),
        sampled(EVEN, n=4, sites=10, noise=-1.0, seed=6),
    )
    weights, gain = better_weights(halves, EVEN)
    np.testing.assert_array_equal(weights, EVEN)
    assert gain == 0.0
