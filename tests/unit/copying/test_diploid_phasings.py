from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.helpers import pair_hmm as reference
from vcfbert.constants import HALF_ALT, HALF_REF, MISSING
from vcfbert.copying.diploid import LIMITS, Limits, consensus, fill_phasings, sample_phasings
from vcfbert.copying.pair_hmm import PairProblem

# Most classes and most sites of a block: one site a block, a few of each, all of them.
BLOCKS = [(2, 1), (4, 3), (3, 100), (48, 32)]
GENOTYPES = np.array([MISSING, 0, 1, 2, HALF_REF, HALF_ALT], np.int8)
# The two alleles of each, the smaller first.
ALLELES = {
    MISSING: (MISSING, MISSING),
    0: (0, 0),
    1: (0, 1),
    2: (1, 1),
    HALF_REF: (MISSING, 0),
    HALF_ALT: (MISSING, 1),
}


def sorted_alleles(genotypes: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    return np.array([ALLELES[g] for g in genotypes.ravel().tolist()], np.int8).reshape(*genotypes.shape, 2)


@dataclass(frozen=True)
class Given:
    """Arguments of ``sample_phasings``."""

    genotypes: npt.NDArray[np.int8]
    panel_alleles: npt.NDArray[np.uint8]
    states: npt.NDArray[np.int32]
    prior: npt.NDArray[np.float32]
    stay: npt.NDArray[np.float64]
    mismatch: npt.NDArray[np.float64]

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self.genotypes, self.panel_alleles, self.states, self.prior, self.stay, self.mismatch

    def of_targets(self, chosen: list[int]) -> Given:
        return Given(
            self.genotypes[:, chosen],
            self.panel_alleles,
            self.states[chosen],
            self.prior[chosen],
            self.stay,
            self.mismatch,
        )

    @property
    def problems(self) -> list[PairProblem]:
        """The same for the plain algorithm, target by target."""
        stay = np.append(0.0, self.stay[1:])
        return [
            PairProblem(
                self.genotypes[:, target],
                self.panel_alleles[:, self.states[target]],
                self.prior[target].astype(np.float64),
                stay,
                self.mismatch,
            )
            for target in range(len(self.states))
        ]


def random_given(*, t: int, n: int = 2, k: int = 6, h: int = 9, seed: int = 0) -> Given:
    """Genotypes of every kind, each target with haplotypes of its own to copy, some of them alike."""
    rng = np.random.default_rng(seed)
    return Given(
        genotypes=rng.choice(GENOTYPES, (t, n), p=[0.1, 0.15, 0.45, 0.15, 0.075, 0.075]),
        panel_alleles=rng.integers(0, 2, (t, h), dtype=np.uint8),
        states=np.stack([rng.permutation(h)[:k] for _ in range(n)]).astype(np.int32),
        prior=rng.dirichlet(np.ones(k), size=n).astype(np.float32),
        stay=rng.uniform(0.5, 1.0, t),
        mismatch=rng.uniform(0.01, 0.15, t),
    )


def seeds(n: int) -> npt.NDArray[np.uint64]:
    return np.arange(n, dtype=np.uint64)


def log_likelihood(
    genotypes: npt.NDArray[np.int8], *arguments: Any, threads: int = 1, limits: Limits = LIMITS
) -> npt.NDArray[np.float64]:
    """[n]: log probability of each target's genotypes, by the forward pass alone; the arguments of ``Given``."""
    t, n = genotypes.shape
    out = np.empty((n, 0, t, 2), np.int8)
    return fill_phasings(genotypes, *arguments, seeds(n), threads, limits, out)


def expected_log_likelihood(given: Given) -> list[float]:
    """The same by the plain algorithm."""
    return [reference.log_likelihood(problem) for problem in given.problems]


@pytest.fixture(params=BLOCKS, ids=str)
def limits(request: pytest.FixtureRequest) -> Limits:
    classes, sites = request.param
    return Limits(min_classes=classes, max_classes=classes, max_sites=sites)


@pytest.mark.parametrize("t", [1, 2, 70])
def test_forward_pass_equals_plain_algorithm(t: int, limits: Limits) -> None:
    given = random_given(t=t, n=3, k=8, h=20)
    expected = expected_log_likelihood(given)
    np.testing.assert_allclose(log_likelihood(*given.arguments, limits=limits), expected, rtol=1e-6, atol=1e-6)


def haploid_probability(given: Given, target: int, alleles: tuple[int, ...]) -> float:
    """Of one haplotype's alleles (-1 missing), by the textbook forward pass in float64."""
    prior = given.prior[target].astype(np.float64)
    copied = given.panel_alleles[:, given.states[target]]
    forward = prior.copy()
    for site, allele in enumerate(alleles):
        stay = given.stay[site] if site else 0.0
        forward = stay * forward + (1.0 - stay) * forward.sum() * prior
        if allele >= 0:
            forward *= np.where(copied[site] == allele, 1.0 - given.mismatch[site], given.mismatch[site])
    return float(forward.sum())


def phasing_probabilities(given: Given, target: int) -> dict[tuple[int, ...], float]:
    """Posterior of every phasing, by the first haplotype's alleles: the two haplotypes are independent but for the
    genotypes, so each phasing weighs as the product of its haplotypes' probabilities."""
    genotypes = given.genotypes[:, target]
    alleles = [ALLELES[int(g)] for g in genotypes]
    weights = {}
    for first in product(*(sorted(set(pair)) for pair in alleles)):
        second = tuple(sum(pair) - x for pair, x in zip(alleles, first, strict=True))
        weights[first] = haploid_probability(given, target, first) * haploid_probability(given, target, second)
    total = sum(weights.values())
    return {first: weight / total for first, weight in weights.items()}


def distinct_rows(rows: npt.NDArray[np.int8]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """The distinct rows of -1, 0 and 1, and how often each occurs. Sorting one number a row is far faster."""
    numbers = (rows + 1) @ 3 ** np.arange(rows.shape[1])
    _, first, counts = np.unique(numbers, return_index=True, return_counts=True)
    return rows[first], counts


@pytest.mark.parametrize("max_bytes", [LIMITS.max_bytes, 1], ids=["one span", "spans"])
def test_phasing_frequencies_equal_posterior(limits: Limits, max_bytes: int) -> None:
    given = random_given(t=9, n=2, k=5, h=7, seed=3)
    n_phasings = 40_000
    limits = replace(limits, max_bytes=max_bytes)
    sampled = sample_phasings(*given.arguments, n_phasings=n_phasings, seeds=seeds(2), limits=limits)
    for target in range(2):
        exact = phasing_probabilities(given, target)
        assert len(exact) >= 16
        rows, counts = distinct_rows(sampled[:, :, target, 0])
        seen = {tuple(map(int, row)): int(count) for row, count in zip(rows, counts, strict=True)}
        assert set(seen) <= set(exact)
        cells = [(seen.get(first, 0), n_phasings * p) for first, p in exact.items()]
        common = [(observed, expected) for observed, expected in cells if expected >= 5]
        chi_square = sum((observed - expected) ** 2 / expected for observed, expected in common)
        freedom = len(common) - 1
        assert freedom >= 8
        assert chi_square < freedom + 4.5 * np.sqrt(2 * freedom)


def haploid_posteriors(given: Given, haplotypes: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    """[t, m, k] of m haplotypes [t, m] for the first target's prior and states."""
    t, k = len(haplotypes), len(given.prior[0])
    prior = given.prior[0].astype(np.float64)
    copied = given.panel_alleles[:, given.states[0]][:, None]  # [t, 1, k]
    errors = given.mismatch[:, None, None]
    seen = np.where(haplotypes[:, :, None] == copied, 1.0 - errors, errors)
    seen[haplotypes < 0] = 1.0
    forward, backward = np.zeros(seen.shape), np.ones(seen.shape)
    before = np.broadcast_to(prior, (haplotypes.shape[1], k))
    for l in range(t):
        stay = given.stay[l] if l else 0.0
        before = (stay * before + (1.0 - stay) * prior) * seen[l]
        before /= before.sum(axis=1, keepdims=True)
        forward[l] = before
    for l in range(t - 1, 0, -1):
        message = backward[l] * seen[l]
        backward[l - 1] = given.stay[l] * message + (1.0 - given.stay[l]) * (message @ prior)[:, None]
        backward[l - 1] /= backward[l - 1].sum(axis=1, keepdims=True)
    joint = forward * backward
    return np.asarray(joint / joint.sum(axis=2, keepdims=True))


@pytest.mark.parametrize("max_bytes", [LIMITS.max_bytes, 1], ids=["one span", "spans"])
def test_mean_haploid_posterior_equals_diploid_posterior(limits: Limits, max_bytes: int) -> None:
    """Over more blocks than could be enumerated."""
    given = random_given(t=40, n=1, k=8, h=12, seed=5)
    n_phasings = 600
    limits = replace(limits, max_bytes=max_bytes)
    sampled = sample_phasings(*given.arguments, n_phasings=n_phasings, seeds=seeds(1), limits=limits)
    haplotypes = sampled[:, :, 0].transpose(1, 0, 2).reshape(40, -1)  # [t, 2 n_phasings]
    posteriors = haploid_posteriors(given, haplotypes).reshape(40, n_phasings, 2, 8).mean(axis=2)
    exact = reference.copying_posteriors(given.problems[0])
    error = np.abs(posteriors.mean(axis=1) - exact)
    allowed = 5.0 * posteriors.std(axis=1) / np.sqrt(n_phasings) + 1e-4
    assert (error < allowed).all()


def test_phasings_keep_genotypes_and_missing_calls() -> None:
    given = random_given(t=50, n=4)
    sampled = sample_phasings(*given.arguments, n_phasings=7, seeds=seeds(4))
    assert sampled.shape == (7, 50, 4, 2)
    assert set(np.unique(given.genotypes)) == set(GENOTYPES)
    wanted = np.broadcast_to(sorted_alleles(given.genotypes), sampled.shape)
    np.testing.assert_array_equal(np.sort(sampled, axis=3), wanted)


def test_phasings_depend_on_own_target_alone() -> None:
    """Not on other targets, the number of threads or phasings, or the limit of memory."""
    given = random_given(t=80, n=5, k=7)
    whole = sample_phasings(*given.arguments, n_phasings=6, seeds=seeds(5))
    assert not (whole[0] == whole[1]).all()
    shared = sample_phasings(*given.arguments, n_phasings=6, seeds=seeds(5), threads=3)
    np.testing.assert_array_equal(shared, whole)
    fewer = sample_phasings(*given.arguments, n_phasings=2, seeds=seeds(5), limits=replace(LIMITS, max_bytes=1))
    np.testing.assert_array_equal(fewer, whole[:2])
    chosen = [3, 1]
    alone = sample_phasings(*given.of_targets(chosen).arguments, n_phasings=6, seeds=seeds(5)[chosen])
    np.testing.assert_array_equal(alone, whole[:, :, chosen])
    np.testing.assert_array_equal(
        log_likelihood(*given.arguments, threads=2)[chosen], log_likelihood(*given.of_targets(chosen).arguments)
    )


def test_phasings_differ_between_seeds() -> None:
    given = random_given(t=80, n=2)
    same = given.of_targets([0, 0, 0])
    sampled = sample_phasings(*same.arguments, n_phasings=3, seeds=np.array([4, 4, 5], np.uint64))
    np.testing.assert_array_equal(sampled[:, :, 0], sampled[:, :, 1])
    assert not (sampled[:, :, 0] == sampled[:, :, 2]).all()


def test_prior_none_equals_uniform() -> None:
    given = random_given(t=30, n=2, k=4)
    flat = Given(*given.arguments[:3], np.full((2, 4), 0.25, np.float32), given.stay, given.mismatch)
    none = (*given.arguments[:3], None, given.stay, given.mismatch)
    np.testing.assert_array_equal(log_likelihood(*flat.arguments), log_likelihood(*none))
    np.testing.assert_array_equal(
        sample_phasings(*flat.arguments, n_phasings=3, seeds=seeds(2)),
        sample_phasings(*none, n_phasings=3, seeds=seeds(2)),
    )


@pytest.mark.parametrize(("t", "k"), [(1, 1), (1, 5), (40, 1)])
def test_one_site_or_one_state_gives_valid_phasings(t: int, k: int) -> None:
    given = random_given(t=t, n=2, k=k)
    expected = expected_log_likelihood(given)
    np.testing.assert_allclose(log_likelihood(*given.arguments), expected, rtol=1e-6, atol=1e-6)
    sampled = sample_phasings(*given.arguments, n_phasings=4, seeds=seeds(2))
    wanted = np.broadcast_to(sorted_alleles(given.genotypes), sampled.shape)
    np.testing.assert_array_equal(np.sort(sampled, axis=3), wanted)


def test_identical_haplotypes_phase_at_random() -> None:
    """With one class throughout, both orders of every heterozygous call are equally probable."""
    given = random_given(t=60, n=1, k=6)
    alike = Given(
        np.ones((60, 1), np.int8),
        np.repeat(given.panel_alleles[:, :1], 9, axis=1),
        given.states,
        given.prior,
        given.stay,
        given.mismatch,
    )
    sampled = sample_phasings(*alike.arguments, n_phasings=400, seeds=seeds(1))
    assert np.abs(sampled[:, :, 0, 0].mean() - 0.5) < 0.02
    both = (sampled[:, 1:, 0, 0] == sampled[:, :-1, 0, 0]).mean()
    assert abs(both - 0.5) < 0.02


def test_state_of_prior_zero_is_ignored() -> None:
    given = random_given(t=30, n=1, k=3, h=3)
    prior = np.array([[0.0, 0.4, 0.6]], np.float32)
    expected = log_likelihood(*given.arguments[:2], given.states[:, 1:], prior[:, 1:], given.stay, given.mismatch)
    np.testing.assert_allclose(
        log_likelihood(*given.arguments[:3], prior, given.stay, given.mismatch), expected, rtol=1e-6
    )


def test_likelihood_far_below_the_smallest_float_is_exact() -> None:
    """Unexplained calls and regions without recombination would underflow without rescaling."""
    t = 2_000
    given = random_given(t=t, n=1, k=6)
    stay = np.where(np.arange(t) % 10 < 3, 1.0, 0.999)
    hard = Given(given.genotypes, given.panel_alleles, given.states, given.prior, stay, np.full(t, 1e-3))
    expected = expected_log_likelihood(hard)
    assert expected[0] < np.log(np.finfo(np.float64).tiny)
    np.testing.assert_allclose(log_likelihood(*hard.arguments), expected, rtol=1e-5)
    sampled = sample_phasings(*hard.arguments, n_phasings=2, seeds=seeds(1), limits=replace(LIMITS, max_bytes=t))
    np.testing.assert_array_equal(np.sort(sampled[0], axis=2), sorted_alleles(given.genotypes))


def test_no_targets_or_no_phasings_give_empty_arrays() -> None:
    given = random_given(t=4, n=2)
    none = given.of_targets([])
    assert sample_phasings(*none.arguments, n_phasings=2, seeds=seeds(0)).shape == (2, 4, 0, 2)
    assert sample_phasings(*given.arguments, n_phasings=0, seeds=seeds(2)).shape == (0, 4, 2, 2)


@pytest.mark.parametrize("field", range(6))
def test_inconsistent_shapes_raise_value_error(field: int) -> None:
    arguments = list(random_given(t=8, n=3).arguments)
    arguments[field] = arguments[field][:-1]
    with pytest.raises(ValueError, match="expected"):
        sample_phasings(*arguments, n_phasings=1, seeds=seeds(3))


@pytest.mark.parametrize("mismatch", [0.0, 0.6, float("nan")])
def test_mismatch_out_of_range_raises_value_error(mismatch: float) -> None:
    given = random_given(t=8)
    with pytest.raises(ValueError, match="mismatch"):
        log_likelihood(*given.arguments[:5], np.full(8, mismatch))


def test_consensus_of_heterozygous_calls_by_hand() -> None:
    """Sites: het, hom ALT, het, missing, het, het. Orders of the hets by phasing, 1 where ALT comes first."""
    orders = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 1], [0, 1, 0, 0]])
    phasings = np.zeros((4, 6, 1, 2), np.int8)
    phasings[:, [0, 2, 4, 5], 0, 0] = orders
    phasings[:, [0, 2, 4, 5], 0, 1] = 1 - orders
    phasings[:, 1] = 1
    phasings[:, 3] = -1
    # Relative to the het before: the second keeps its order in 2 of 4 (tie: keeps, as in the first phasing), the third
    # flips in 2 of 4 (tie: flips), the fourth keeps in 2 of 4 (tie: flips).
    expected = [[1, 0], [1, 1], [1, 0], [-1, -1], [0, 1], [1, 0]]
    np.testing.assert_array_equal(consensus(phasings)[:, 0], expected)
    # Without the last phasing: keeps in 2 of 3, flips in 1, flips in 2.
    expected = [[1, 0], [1, 1], [1, 0], [-1, -1], [1, 0], [0, 1]]
    np.testing.assert_array_equal(consensus(phasings[:3])[:, 0], expected)


def test_consensus_of_half_calls_by_hand() -> None:
    """Sites: half, het, half, het, half. A half call is placed relative to the het before it as in most phasings, and
    does not affect the hets."""
    phasings = np.array(
        [
            [[0, -1], [1, 0], [0, -1], [1, 0], [-1, 1]],
            [[-1, 0], [0, 1], [-1, 0], [0, 1], [1, -1]],
            [[-1, 0], [0, 1], [0, -1], [1, 0], [-1, 1]],
        ],
        np.int8,
    )[:, :, None]
    # The half call before all hets is as in the first phasing. The next lies along the het's ALT in 2 of 3, the last
    # along the het's REF in all.
    expected = [[0, -1], [1, 0], [0, -1], [1, 0], [-1, 1]]
    np.testing.assert_array_equal(consensus(phasings)[:, 0], expected)
    flipped = phasings[[1, 0, 2]]
    np.testing.assert_array_equal(consensus(flipped)[:, 0], np.array(expected)[:, ::-1])
    np.testing.assert_array_equal(consensus(phasings[[1, 2]])[2, 0], [-1, 0])  # a tie: as in the first phasing
    without = phasings[:, [1, 3]]
    np.testing.assert_array_equal(consensus(phasings)[[1, 3]], consensus(without))


def test_consensus_of_one_phasing_is_itself() -> None:
    given = random_given(t=60, n=3)
    sampled = sample_phasings(*given.arguments, n_phasings=1, seeds=seeds(3))
    np.testing.assert_array_equal(consensus(sampled), sampled[0])
    assert consensus(np.zeros((2, 0, 3, 2), np.int8)).shape == (0, 3, 2)
