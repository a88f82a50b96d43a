from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.helpers.pair_hmm import copying_posteriors, genotype_emission, log_likelihood, pair_posteriors
from vcfbert.constants import HALF_ALT, HALF_REF, MISSING
from vcfbert.model.li_stephens import CopyingProblem

Floats = npt.NDArray[np.float64]


def problem(*, t: int, n: int = 2, k: int = 3, own_states: bool = False, seed: int = 0) -> CopyingProblem:
    """Random genotypes, a quarter of them missing, and an uneven prior, in float64."""
    rng = np.random.default_rng(seed)
    return CopyingProblem(
        observed=torch.from_numpy(rng.integers(MISSING, HALF_ALT + 1, (t, n)).astype(np.int8)),
        states=torch.from_numpy(rng.integers(0, 2, (t, n, k) if own_states else (t, k)).astype(np.uint8)),
        cm=torch.zeros(t),
        maf=torch.zeros(t),
        prior=torch.from_numpy(rng.dirichlet(np.ones(k), size=n)),
    )


def rates(t: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    stay = np.append(0.0, rng.uniform(0.3, 1.0, t - 1))
    return torch.from_numpy(stay), torch.from_numpy(rng.uniform(0.01, 0.2, t))


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


def enumerated(given: CopyingProblem, stay: torch.Tensor, mismatch: torch.Tensor, target: int) -> tuple[Floats, float]:
    """Pair posteriors [t, k, k] and the log likelihood, by the sum over every pair of paths."""
    t, k = len(given), given.prior.shape[1]
    prior = given.prior[target].numpy()
    states = given.states.numpy() if given.states.ndim == 2 else given.states[:, target].numpy()
    posterior = np.zeros((t, k, k))
    paths = list(product(range(k), repeat=t))

    def probability(path: tuple[int, ...]) -> float:
        value = 1.0
        for site, state in enumerate(path):
            kept = float(stay[site])
            value *= (1 - kept) * prior[state] + (kept if site and path[site - 1] == state else 0.0)
        return value

    own = {path: probability(path) for path in paths}
    for first, second in product(paths, repeat=2):
        value = own[first] * own[second]
        for site in range(t):
            alleles = int(states[site, first[site]]), int(states[site, second[site]])
            value *= probability_of_genotype(int(given.observed[site, target]), *alleles, float(mismatch[site]))
        for site in range(t):
            posterior[site, first[site], second[site]] += value
    total = posterior[0].sum()
    return posterior / total, float(np.log(total))


@pytest.mark.parametrize("t", [1, 2, 4])
@pytest.mark.parametrize("own_states", [False, True])
def test_pair_posteriors_equal_enumeration(t: int, own_states: bool) -> None:
    given = problem(t=t, own_states=own_states)
    stay, mismatch = rates(t)
    pairs = torch.stack(list(pair_posteriors(given, stay, mismatch))).numpy()
    likelihood = log_likelihood(given, stay, mismatch).numpy()
    for target in range(2):
        expected, total = enumerated(given, stay, mismatch, target)
        np.testing.assert_allclose(pairs[:, target], expected, atol=1e-12)
        np.testing.assert_allclose(likelihood[target], total, rtol=1e-12)


def test_copying_posteriors_equal_row_sums() -> None:
    given = problem(t=11, n=3, k=5)
    stay, mismatch = rates(11)
    pairs = torch.stack(list(pair_posteriors(given, stay, mismatch)))
    copies = copying_posteriors(given, stay, mismatch)
    np.testing.assert_allclose(copies.numpy(), pairs.numpy().sum(axis=3), atol=1e-12)
    np.testing.assert_allclose(copies.numpy(), pairs.numpy().sum(axis=2), atol=1e-12)
    np.testing.assert_allclose(copies.sum(dim=-1).numpy(), 1.0, atol=1e-12)


def test_pair_posteriors_of_reversed_problem_are_equal() -> None:
    """Messages are computed again between the sites where they are kept; reading backwards keeps other sites."""
    t = 10
    given = problem(t=t)
    stay, mismatch = rates(t)
    # The chain is reversible, because every transition keeps the prior: the reversed problem has the same posteriors.
    flipped = CopyingProblem(given.observed.flip(0), given.states.flip(0), given.cm, given.maf, given.prior)
    flipped_stay = torch.cat([stay[:1], stay[1:].flip(0)])
    forward = torch.stack(list(pair_posteriors(given, stay, mismatch)))
    backward = torch.stack(list(pair_posteriors(flipped, flipped_stay, mismatch.flip(0))))
    np.testing.assert_allclose(forward.numpy(), backward.flip(0).numpy(), atol=1e-12)


def test_emission_by_hand() -> None:
    """Mismatch 0.1: REF/REF gives 0, 1, 2 with probabilities 0.81, 0.18, 0.01, and REF/ALT with 0.09, 0.82, 0.09. The
    known allele of a half call comes from either haplotype."""
    genotypes = torch.tensor([0, 1, 2, MISSING, HALF_REF, HALF_ALT])
    seen = genotype_emission(genotypes, torch.tensor([0, 1]), torch.tensor(0.1)).numpy()
    np.testing.assert_allclose(seen[:, 0, 0], [0.81, 0.18, 0.01, 1.0, 0.9, 0.1], atol=1e-6)
    np.testing.assert_allclose(seen[:, 0, 1], [0.09, 0.82, 0.09, 1.0, 0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(seen[:, 1, 0], seen[:, 0, 1])
    np.testing.assert_allclose(seen[:, 1, 1], [0.01, 0.18, 0.81, 1.0, 0.1, 0.9], atol=1e-6)


def test_log_likelihood_in_float32_equals_float64() -> None:
    given = problem(t=400, n=1, k=6)
    stay, mismatch = rates(400)
    single = CopyingProblem(given.observed, given.states, given.cm, given.maf, given.prior.float())
    exact = log_likelihood(given, stay, mismatch)
    np.testing.assert_allclose(log_likelihood(single, stay.float(), mismatch.float()), exact, rtol=1e-5)


def test_log_likelihood_gradients_equal_finite_differences() -> None:
    given = problem(t=5)
    stay, mismatch = rates(5)
    assert torch.autograd.gradcheck(
        lambda s, m, p: log_likelihood(CopyingProblem(given.observed, given.states, given.cm, given.maf, p), s, m),
        (stay.requires_grad_(), mismatch.requires_grad_(), given.prior.requires_grad_()),
    )
