from __future__ import annotations

import math
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
import torch

from vcfbert.model.li_stephens import CopyingProblem, LiStephens, interpolated_dosage

Floats = npt.NDArray[np.float64]


def problem(*, t: int, n: int = 3, k: int = 4, own_states: bool = False, seed: int = 0) -> CopyingProblem:
    """Random alleles with a fifth of them missing, and a prior that is not flat."""
    rng = np.random.default_rng(seed)
    observed = np.where(rng.random((t, n)) < 0.2, -1, rng.integers(0, 2, (t, n)))
    shape = (t, n, k) if own_states else (t, k)
    prior = rng.dirichlet(np.ones(k), size=n)
    return CopyingProblem(
        observed=torch.from_numpy(observed.astype(np.int8)),
        states=torch.from_numpy(rng.integers(0, 2, shape).astype(np.uint8)),
        cm=torch.from_numpy(np.cumsum(rng.exponential(0.05, t))),
        maf=torch.from_numpy(rng.uniform(0.05, 0.5, t)).float(),
        prior=torch.from_numpy(prior).float(),
    )


def plain(given: CopyingProblem, rate: float, mismatch: float) -> Floats:
    """Posteriors [t, n, k] by the textbook forward-backward algorithm in float64, one target at a time."""
    observed, states, cm = given.observed.numpy(), given.states.numpy(), given.cm.numpy()
    t, n = observed.shape
    k = states.shape[-1]
    posterior = np.zeros((t, n, k))
    for target in range(n):
        prior = given.prior[target].double().numpy()
        alleles = states if states.ndim == 2 else states[:, target]
        seen = np.where(alleles == observed[:, target, None], 1.0 - mismatch, mismatch)
        seen[observed[:, target] < 0] = 1.0
        moves = [np.zeros((k, k))]
        for step in np.diff(cm):
            stay = math.exp(-rate * step)
            moves.append(stay * np.eye(k) + (1.0 - stay) * np.tile(prior, (k, 1)))
        forward, backward = np.zeros((t, k)), np.ones((t, k))
        forward[0] = prior * seen[0]
        for site in range(1, t):
            forward[site] = (forward[site - 1] @ moves[site]) * seen[site]
        for site in range(t - 2, -1, -1):
            backward[site] = moves[site + 1] @ (seen[site + 1] * backward[site + 1])
        joint = forward * backward
        posterior[:, target] = joint / joint.sum(axis=1, keepdims=True)
    return posterior


def model(rate: float = 6.0, mismatch: float = 0.01) -> LiStephens:
    made = LiStephens()
    with torch.no_grad():
        made.log_rate.fill_(math.log(rate))
        made.mismatch_logit.fill_(math.log(mismatch / (1 - mismatch)))
    return made


def all_posteriors(made: LiStephens, given: CopyingProblem, chunk: int | None = None) -> torch.Tensor:
    parts = list(made.posteriors(given, chunk=chunk))
    assert [start for start, _ in parts] == list(np.cumsum([0, *(len(p) for _, p in parts)])[:-1])
    return torch.cat([p for _, p in parts])


@pytest.mark.parametrize("t", [1, 2, 40])
@pytest.mark.parametrize("own_states", [False, True])
@pytest.mark.parametrize("chunk", [None, 1, 7, 100])
def test_posteriors_equal_plain_algorithm(t: int, own_states: bool, chunk: int | None) -> None:
    given = problem(t=t, own_states=own_states)
    expected = plain(given, 6.0, 0.01)
    np.testing.assert_allclose(all_posteriors(model(), given, chunk).detach().numpy(), expected, atol=1e-5)


def test_posteriors_of_two_sites_equal_enumeration() -> None:
    """The sum over every path of two sites and three states."""
    given = problem(t=2, n=1, k=3, seed=3)
    stay = math.exp(-6.0 * float(given.cm[1] - given.cm[0]))
    weight = torch.zeros(2, 3)
    for first, second in product(range(3), repeat=2):
        path = float(given.prior[0, first]) * (stay * (first == second) + (1 - stay) * float(given.prior[0, second]))
        for site, state in ((0, first), (1, second)):
            seen, carried = int(given.observed[site, 0]), int(given.states[site, state])
            path *= 1.0 if seen < 0 else (0.99 if seen == carried else 0.01)
        weight[0, first] += path
        weight[1, second] += path
    torch.testing.assert_close(all_posteriors(model(), given)[:, 0], weight / weight.sum(1, keepdim=True))


def test_posteriors_of_many_sites_are_finite_and_exact() -> None:
    given = problem(t=2_000, n=2, k=5)
    with torch.no_grad():
        found = all_posteriors(model(mismatch=1e-4), given)
    assert found.isfinite().all()
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(2_000, 2))
    half = CopyingProblem(given.observed[:500], given.states[:500], given.cm[:500], given.maf[:500], given.prior)
    expected = plain(half, 6.0, 1e-4)
    np.testing.assert_allclose(found[:250].numpy(), expected[:250], atol=1e-5)


@pytest.mark.parametrize("name", ["log_rate", "mismatch_logit", "mismatch_slope"])
def test_gradients_equal_finite_differences(name: str) -> None:
    given = problem(t=12)
    double = CopyingProblem(given.observed, given.states, given.cm, given.maf.double(), given.prior.double())
    made = model().double()
    toward = torch.randn(12, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def value() -> torch.Tensor:
        return (all_posteriors(made, double, chunk=5) * toward).sum()

    value().backward()
    parameter = getattr(made, name)
    step, centre = 1e-5, float(parameter.detach())
    either = []
    for at in (centre + step, centre - step):
        with torch.no_grad():
            parameter.fill_(at)
            either.append(float(value().detach()))
    assert float(parameter.grad) == pytest.approx((either[0] - either[1]) / (2 * step), rel=1e-5)


def test_interpolated_dosage_by_hand() -> None:
    left, right = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])
    alleles = torch.tensor([[0, 1, 0], [1, 0, 1]], dtype=torch.uint8)
    found = interpolated_dosage(left, right, alleles, torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.75, 0.5]]))
