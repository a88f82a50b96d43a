"""The compiled haploid HMM: by hand, and against the plain algorithm."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from tests.helpers.intervals import intervals_of
from tests.helpers.li_stephens import dosages
from vcfbert.copying.haploid import MAX_DROPPED, Copied, Heads, copy
from vcfbert.copying.li_stephens import Problem, posteriors
from vcfbert.kernels import Alleles, Calls, Doubles, Floats, Indices, Numbers


@dataclass(frozen=True)
class Given:
    """Targets in a window of l sites, with typed sites inside it and beyond either end."""

    observed: Calls  # [t, n]
    key_alleles: Alleles  # [t, r]
    states: Numbers  # [n, k]
    prior: Floats  # [n, k]
    heads: Heads
    alleles: Alleles  # [r, l]
    place: Indices  # [t]
    fraction: Floats  # [l]

    def copied(self, targets: list[int] | slice = slice(None), **options: int) -> Copied:
        return copy(
            np.ascontiguousarray(self.observed[:, targets]),
            self.key_alleles,
            self.states[targets],
            self.prior[targets],
            self.heads,
            intervals_of(self.alleles, self.place),
            self.fraction,
            **options,
        )

    def problem(self, target: int, head: int) -> Problem:
        """One target and one head for the plain algorithm."""
        alleles = self.key_alleles[:, self.states[target]]
        stay, mismatch = self.heads.stay[head], self.heads.mismatch[head]
        return Problem(self.observed[:, target], alleles, self.prior[target], stay, mismatch)


def mixture_weights(heads: int, l: int) -> Floats:
    """Mixture weights [heads, l] of sum 1 at each site, different at every site."""
    raw = 1.0 + np.arange(heads)[:, None] * np.linspace(0.5, 2.0, l)
    return (raw / raw.sum(axis=0)).astype(np.float32)


def heads_of_one(stay: list[float], mismatch: list[float], l: int) -> Heads:
    t = len(stay)
    one_row = np.array([stay], np.float32), np.array([mismatch], np.float32)
    return Heads(*one_row, np.ones((1, l), np.float32), np.ones((1, t), np.float32))


def random_given(
    *, place: list[int] | None = None, l: int = 40, beyond: int = 3, n: int = 5, k: int = 6, r: int = 9, heads: int = 2,
    seed: int = 0,
) -> Given:  # fmt: skip
    """A quarter of the calls missing, an uneven prior, states that differ between targets, rare and common sites.

    ``place``: the typed sites; by default three in ten of all sites, of which ``beyond`` lie on either side.
    """
    rng = np.random.default_rng(seed)
    typed = np.flatnonzero(rng.random(l + 2 * beyond) < 0.3) - beyond if place is None else np.array(place)
    t = len(typed)
    observed = np.where(rng.random((t, n)) < 0.25, -1, rng.integers(0, 2, (t, n))).astype(np.int8)
    stay = rng.uniform(0.4, 1.0, (heads, t))
    stay[:, 0] = 0.0
    site = np.arange(l)
    fraction = np.where(site <= typed[0], 1.0, np.where(site > typed[-1], 0.0, rng.random(l)))
    return Given(
        observed=observed,
        key_alleles=rng.integers(0, 2, (t, r)).astype(np.uint8),
        states=np.stack([rng.permutation(r)[:k] for _ in range(n)]).astype(np.int32),
        prior=rng.dirichlet(np.full(k, 0.5), size=n).astype(np.float32),
        heads=Heads(
            stay.astype(np.float32),
            rng.uniform(0.001, 0.2, (heads, t)).astype(np.float32),
            mixture_weights(heads, l),
            mixture_weights(heads, t),
        ),
        alleles=(rng.random((r, l)) < 0.3).astype(np.uint8),
        place=typed,
        fraction=fraction.astype(np.float32),
    )


def expected(given: Given) -> Doubles:
    """Dosages [n, l] by the plain algorithm."""
    out = np.zeros((len(given.states), len(given.fraction)))
    for target, states in enumerate(given.states):
        for head, weights in enumerate(given.heads.mixture):
            posterior = posteriors(given.problem(target, head))
            out[target] += weights * dosages(posterior, given.alleles[states], given.place, given.fraction)
    return out


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("beyond", [0, 3])
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_dosages_equal_plain_algorithm(seed: int, beyond: int, heads: int) -> None:
    given = random_given(seed=seed, beyond=beyond, heads=heads)
    found = given.copied().dosage
    np.testing.assert_allclose(found, expected(given), atol=1e-5)
    assert found.std() > 0.1


@pytest.mark.parametrize(
    "place", [[0], [20], [39], [-5], [44], [-2, 41], [0, 1, 38, 39], [-3, -2, -1], list(range(-4, 44))]
)
def test_dosages_equal_plain_algorithm_for_any_typed_sites(place: list[int]) -> None:
    given = random_given(place=place)
    np.testing.assert_allclose(given.copied().dosage, expected(given), atol=1e-5)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 7, 8, 9])
def test_any_number_of_states_equals_plain_algorithm(k: int) -> None:
    """The compiled HMM pads states to whole vectors."""
    given = random_given(k=k, seed=k)
    np.testing.assert_allclose(given.copied().dosage, expected(given), atol=1e-5)


@pytest.mark.parametrize("missing", ["first", "last", "all"])
def test_missing_calls_at_the_ends_equal_plain_algorithm(missing: str) -> None:
    given = random_given()
    sites = {"first": [0], "last": [-1], "all": list(range(len(given.place)))}[missing]
    given.observed[sites] = -1
    np.testing.assert_allclose(given.copied().dosage, expected(given), atol=1e-5)


def without(calls: Calls, site: int) -> Calls:
    """``calls`` [t] with that of ``site`` missing."""
    kept = calls.copy()
    kept[site] = -1
    return kept


@pytest.mark.parametrize("seed", range(3))
def test_loo_equals_plain_algorithm_without_the_call(seed: int) -> None:
    given = random_given(seed=seed)
    found = given.copied().loo
    for target in range(len(given.states)):
        for site, call in enumerate(given.observed[:, target]):
            if call < 0:
                assert np.isnan(found[target, site])
                continue
            mixture = 0.0
            for head, weights in enumerate(given.heads.key_mixture):
                problem = given.problem(target, head)
                posterior = posteriors(replace(problem, observed=without(given.observed[:, target], site)))[site]
                mixture += weights[site] * (posterior @ problem.alleles[site])
            assert found[target, site] == pytest.approx(mixture, abs=1e-5)


def test_weighted_sum_of_single_heads_equals_mixture() -> None:
    given = random_given(heads=3)
    alone = [replace(given, heads=given.heads.alone(number)).copied() for number in range(3)]
    whole = given.copied()
    for name, weights in (("dosage", given.heads.mixture), ("loo", given.heads.key_mixture)):
        mixed = sum(weights[number] * getattr(one, name) for number, one in enumerate(alone))
        np.testing.assert_allclose(mixed, getattr(whole, name), atol=1e-6)


def test_two_thousand_sites_equal_plain_algorithm() -> None:
    given = random_given(place=list(range(0, 4_000, 2)), l=4_000, n=2, k=5, heads=1)
    rare = np.full_like(given.heads.mismatch, 1e-4)
    given = replace(given, heads=replace(given.heads, mismatch=rare))
    found = given.copied()
    assert np.isfinite(found.dosage).all()
    np.testing.assert_allclose(found.dosage, expected(given), atol=MAX_DROPPED)


def test_one_typed_site_by_hand() -> None:
    """Two haplotypes, prior 1/4 and 3/4; the call is the first's allele, wrong one time in ten."""
    intervals = intervals_of(np.array([[0, 1, 1], [1, 0, 1]], np.uint8), np.array([1]))
    found = copy(
        np.array([[1]], np.int8), np.array([[1, 0]], np.uint8), np.array([[0, 1]], np.int32),
        np.array([[0.25, 0.75]], np.float32), heads_of_one([0.0], [0.1], 3), intervals, np.array([1, 1, 0], np.float32),
    )  # fmt: skip
    first = 0.25 * 0.9 / (0.25 * 0.9 + 0.75 * 0.1)
    np.testing.assert_allclose(found.dosage, [[1 - first, first, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(found.loo, [[0.25]], rtol=1e-6)  # the prior of the one that carries ALT


def test_results_do_not_depend_on_threads() -> None:
    given = random_given(n=7)
    alone = given.copied()
    for threads in (2, 7, 12):
        shared = given.copied(threads=threads)
        np.testing.assert_array_equal(shared.dosage, alone.dosage)
        np.testing.assert_array_equal(shared.loo, alone.loo)


def test_results_do_not_depend_on_other_targets() -> None:
    given = random_given(n=5)
    together = given.copied().dosage
    for chosen in ([0], [3, 1], [4, 3, 2, 1, 0]):
        np.testing.assert_allclose(given.copied(chosen).dosage, together[chosen], atol=1e-6)


def test_ten_thousand_unexplained_calls_do_not_underflow() -> None:
    """Without rescaling, forward probabilities would be 1e-4 to the power of ten thousand."""
    rng = np.random.default_rng(1)
    t = 10_000
    key_alleles = rng.integers(0, 2, (t, 3)).astype(np.uint8)
    observed = np.ascontiguousarray(1 - key_alleles[:, [0, 0]]).astype(np.int8)
    key_alleles[:, 1:] = key_alleles[:, [0]]  # every haplotype differs at every site
    stay = np.where(np.arange(t) % 2, 1.0, 0.99).tolist()
    found = copy(
        observed, key_alleles, np.tile(np.arange(3, dtype=np.int32), (2, 1)), np.full((2, 3), 1 / 3, np.float32),
        heads_of_one(stay, [1e-4] * t, 1), intervals_of(np.array([[1], [0], [0]], np.uint8), np.arange(t)),
        np.ones(1, np.float32),
    )  # fmt: skip
    np.testing.assert_allclose(found.dosage, 1 / 3, rtol=1e-3)
    assert np.isfinite(found.loo).all()


def test_flat_map_with_hundreds_of_mismatches_gives_finite_results() -> None:
    """No switch is possible. One half of the sites rules out the first haplotype, the other half the second."""
    t = 600
    key_alleles = np.zeros((t, 2), np.uint8)
    key_alleles[:300, 0] = key_alleles[300:, 1] = 1
    found = copy(
        np.zeros((t, 1), np.int8), key_alleles, np.array([[0, 1]], np.int32), np.full((1, 2), 0.5, np.float32),
        heads_of_one([0.0] + [1.0] * (t - 1), [1e-4] * t, 3), intervals_of(np.array([[1, 1, 0], [0, 1, 1]], np.uint8),
        np.array([-300 + i for i in range(300)] + [2 + i for i in range(300)])), np.full(3, 0.5, np.float32),
    )  # fmt: skip
    assert np.isfinite(found.loo).all()
    # Between the halves the target switches from the second haplotype to the first.
    np.testing.assert_allclose(found.dosage, [[0.5, 1.0, 0.5]], atol=1e-3)


@pytest.mark.parametrize("span", [1, 3, 5, 100])
def test_results_do_not_depend_on_the_span(span: int) -> None:
    given = random_given(n=3, l=60, heads=2)
    expected = given.copied()
    found = given.copied(forward_bytes=4 * 2 * given.states.shape[1] * span)
    np.testing.assert_allclose(found.dosage, expected.dosage, atol=1e-6)
    np.testing.assert_allclose(found.loo, expected.loo, atol=1e-6)


def test_more_heads_than_lanes_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 4 heads"):
        random_given(heads=5).copied()
