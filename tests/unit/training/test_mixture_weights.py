"""Mixture weights of least squared error: statistics by hand, known mixtures recovered, noise not fitted."""

from __future__ import annotations

import torch

from vcfbert.training.mixture_weights import SufficientStatistics, better_weights, least_error


def sampled(weights: torch.Tensor, *, n: int, sites: int, noise: float, seed: int) -> SufficientStatistics:
    """Statistics of random dosages of three heads and their mixture by ``weights`` [2, 3] with noise."""
    generator = torch.Generator().manual_seed(seed)
    dosage = torch.rand(3, n, sites, generator=generator)
    low = torch.rand(sites, generator=generator)
    knots = torch.stack([low, 1.0 - low], dim=1)
    truth = torch.einsum("lk,ki,inl->nl", knots, weights, dosage)
    return SufficientStatistics.of(dosage, truth + noise * torch.randn(n, sites, generator=generator), knots)


EVEN = torch.full((2, 3), 1 / 3)
KNOWN = torch.tensor([[0.7, 0.3, 0.0], [0.1, 0.2, 0.7]])


def test_error_equals_squared_error_of_mixture() -> None:
    generator = torch.Generator().manual_seed(1)
    dosage, truth = torch.rand(3, 4, 5, generator=generator), torch.rand(4, 5, generator=generator)
    knots = torch.rand(5, 2, generator=generator)
    mixture = torch.einsum("lk,ki,inl->nl", knots, KNOWN, dosage)
    found = SufficientStatistics.of(dosage, truth, knots)
    expected = float((mixture - truth).square().sum())
    assert abs(found.error(KNOWN) - expected) < 1e-4
    halves = SufficientStatistics.of(dosage[:, :1], truth[:1], knots) + SufficientStatistics.of(
        dosage[:, 1:], truth[1:], knots
    )
    assert abs(halves.error(KNOWN) - expected) < 1e-4


def test_least_error_recovers_known_mixture() -> None:
    found = least_error(sampled(KNOWN, n=20, sites=200, noise=0.0, seed=2), EVEN)
    torch.testing.assert_close(found, KNOWN, atol=0.01, rtol=0)


def test_knot_without_sites_keeps_start() -> None:
    dosage, truth = torch.rand(3, 4, 9, generator=torch.Generator().manual_seed(3)), torch.zeros(4, 9)
    found = least_error(SufficientStatistics.of(dosage, truth, torch.tensor([[1.0, 0.0]]).expand(9, 2)), KNOWN)
    torch.testing.assert_close(found[1], KNOWN[1])
    assert not torch.allclose(found[0], KNOWN[0], atol=0.01)


def test_better_weights_with_gain_on_other_half_keeps_fit() -> None:
    halves = (
        sampled(KNOWN, n=20, sites=100, noise=0.1, seed=4),
        sampled(KNOWN, n=20, sites=100, noise=0.1, seed=5),
    )
    weights, gain = better_weights(halves, EVEN)
    torch.testing.assert_close(weights, KNOWN, atol=0.1, rtol=0)
    assert 0.05 < gain < 1.0


def test_better_weights_of_noise_keeps_start() -> None:
    halves = (
        sampled(EVEN, n=1, sites=4, noise=1.0, seed=6),
        sampled(EVEN, n=1, sites=4, noise=1.0, seed=7),
    )
    weights, gain = better_weights(halves, EVEN)
    assert torch.equal(weights, EVEN)
    assert gain == 0.0
