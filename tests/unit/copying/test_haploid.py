"""The compiled haploid HMM against the torch one, and its intervals by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from vcfbert.copying.haploid import Heads, Intervals, copy, cut
from vcfbert.model.li_stephens import CopyingProblem, LiStephens, interpolated_dosage


@dataclass(frozen=True)
class Given:
    """A window of l sites, with typed sites inside it and beyond either end."""

    alleles: npt.NDArray[np.uint8]  # [r, l]
    place: npt.NDArray[np.int64]  # [t]
    fraction: npt.NDArray[np.float32]  # [l]
    states: npt.NDArray[np.int32]  # [n, k]
    key_alleles: npt.NDArray[np.uint8]  # [t, r]
    problem: CopyingProblem

    def arguments(self, models: list[LiStephens], targets: list[int] | None = None) -> tuple[Any, ...]:
        chosen = slice(None) if targets is None else targets
        with torch.no_grad():
            heads = Heads(
                np.stack([model.stay(self.problem.cm).numpy() for model in models]),
                np.stack([model.mismatch(self.problem.maf).numpy() for model in models]),
                mixture_weights(len(models), len(self.fraction)),
                mixture_weights(len(models), len(self.place)),
            )
            return (
                np.ascontiguousarray(self.problem.observed.numpy()[:, chosen]),
                self.key_alleles,
                self.states[chosen],
                self.problem.prior.numpy()[chosen],
                heads,
                cut(self.alleles, self.place),
                self.fraction,
            )


def mixture_weights(heads: int, l: int) -> npt.NDArray[np.float32]:
    """Mixture weights [heads, l] of sum 1 at each site, different at every site."""
    raw = 1.0 + np.arange(heads)[:, None] * np.linspace(0.5, 2.0, l)
    return (raw / raw.sum(axis=0)).astype(np.float32)


def two_models() -> list[LiStephens]:
    models = [LiStephens(rate=6.0, mismatch=0.02), LiStephens(rate=15.0, mismatch=0.1)]
    with torch.no_grad():
        models[0].mismatch_slope.fill_(-0.7)
    return models


def heads_of_one(stay: list[float], mismatch: list[float], l: int) -> Heads:
    t = len(stay)
    one_row = np.array([stay], np.float32), np.array([mismatch], np.float32)
    return Heads(*one_row, np.ones((1, l), np.float32), np.ones((1, t), np.float32))


def random_given(*, l: int = 40, beyond: int = 3, n: int = 5, k: int = 6, r: int = 9, seed: int = 0) -> Given:
    """A quarter of the calls missing, an uneven prior, states that differ between targets, rare and common sites."""
    rng = np.random.default_rng(seed)
    place = np.flatnonzero(rng.random(l + 2 * beyond) < 0.3) - beyond
    t = len(place)
    observed = np.where(rng.random((t, n)) < 0.25, -1, rng.integers(0, 2, (t, n))).astype(np.int8)
    states = np.stack([rng.permutation(r)[:k] for _ in range(n)]).astype(np.int32)
    key_alleles = rng.integers(0, 2, (t, r)).astype(np.uint8)
    problem = CopyingProblem(
        observed=torch.from_numpy(observed),
        states=torch.from_numpy(key_alleles[:, states]),
        cm=torch.from_numpy(np.cumsum(rng.exponential(0.05, t))).float(),
        maf=torch.from_numpy(rng.uniform(0.001, 0.5, t)).float(),
        prior=torch.from_numpy(rng.dirichlet(np.full(k, 0.5), size=n)).float(),
    )
    alleles = (rng.random((r, l)) < 0.3).astype(np.uint8)
    return Given(alleles, place, rng.random(l, dtype=np.float32), states, key_alleles, problem)


def expected(given: Given, model: LiStephens) -> npt.NDArray[np.float32]:
    """[n, l], by site and target, from the torch layer's posteriors."""
    n, l, t = len(given.states), len(given.fraction), len(given.place)
    with torch.no_grad():
        posterior = torch.cat([part for _, part in model.posteriors(given.problem)])  # [t, n, k]
    out = np.empty((n, l), np.float32)
    for site in range(l):
        right = int((given.place < site).sum())  # the first typed site at or beyond it
        left = max(right - 1, 0)
        fraction = torch.from_numpy(given.fraction[[site]])
        for target in range(n):
            carried = torch.from_numpy(given.alleles[given.states[target]][:, [site]])
            either = posterior[left, target][None], posterior[min(right, t - 1), target][None]
            if right == 0:  # nothing typed at its left: the first typed site alone
                fraction = torch.ones(1)
            if right == t:
                fraction = torch.zeros(1)
            out[target, site] = interpolated_dosage(*either, carried, fraction)
    return out


def with_ends(given: Given) -> Given:
    """The same, with the fractions that ``copy`` requires beyond the outermost typed sites."""
    site = np.arange(len(given.fraction))
    fraction = np.where(site <= given.place[0], 1, np.where(site > given.place[-1], 0, given.fraction))
    return Given(
        given.alleles, given.place, fraction.astype(np.float32), given.states, given.key_alleles, given.problem
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("beyond", [0, 3])
def test_dosages_equal_torch_layer(seed: int, beyond: int) -> None:
    given, models = with_ends(random_given(seed=seed, beyond=beyond)), two_models()
    found = copy(*given.arguments(models)).dosage
    weights = mixture_weights(2, len(given.fraction))
    mixture = sum(weights[head] * expected(given, model) for head, model in enumerate(models))
    np.testing.assert_allclose(found, mixture, atol=1e-4)
    assert found.std() > 0.1


@pytest.mark.parametrize("seed", range(3))
def test_loo_equals_torch_layer_without_the_call(seed: int) -> None:
    given, models = with_ends(random_given(seed=seed)), two_models()
    found = copy(*given.arguments(models)).loo
    calls = given.problem.observed
    weights = mixture_weights(2, len(calls))
    for site in range(len(calls)):
        without = calls.clone()
        without[site] = -1
        problem = replace(given.problem, observed=without)
        mixture = torch.zeros(calls.shape[1])
        for head, model in enumerate(models):
            with torch.no_grad():
                posterior = torch.cat([part for _, part in model.posteriors(problem)])[site]  # [n, k]
            mixture += weights[head, site] * (posterior * given.problem.states[site]).sum(dim=1)
        missing = calls[site].numpy() < 0
        assert np.isnan(found[missing, site]).all()
        np.testing.assert_allclose(found[~missing, site], mixture.numpy()[~missing], atol=1e-4)


def test_one_typed_site_by_hand() -> None:
    """Two haplotypes, prior 1/4 and 3/4; the call is the first's allele, wrong one time in ten."""
    intervals = cut(np.array([[0, 1, 1], [1, 0, 1]], np.uint8), np.array([1]))
    found = copy(
        np.array([[1]], np.int8), np.array([[1, 0]], np.uint8), np.array([[0, 1]], np.int32),
        np.array([[0.25, 0.75]], np.float32), heads_of_one([0.0], [0.1], 3), intervals, np.array([1, 1, 0], np.float32),
    )  # fmt: skip
    first = 0.25 * 0.9 / (0.25 * 0.9 + 0.75 * 0.1)
    np.testing.assert_allclose(found.dosage, [[1 - first, first, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(found.loo, [[0.25]], rtol=1e-6)  # the prior of the one that carries ALT


def test_results_do_not_depend_on_threads() -> None:
    given = with_ends(random_given(n=7))
    arguments = given.arguments(two_models())
    alone = copy(*arguments)
    for threads in (2, 7, 12):
        shared = copy(*arguments, threads=threads)
        np.testing.assert_array_equal(shared.dosage, alone.dosage)
        np.testing.assert_array_equal(shared.loo, alone.loo)


def test_results_do_not_depend_on_other_targets() -> None:
    given = with_ends(random_given(n=5))
    together = copy(*given.arguments(two_models())).dosage
    for chosen in ([0], [3, 1], [4, 3, 2, 1, 0]):
        found = copy(*given.arguments(two_models(), chosen)).dosage
        np.testing.assert_allclose(found, together[chosen], atol=1e-6)


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
        heads_of_one(stay, [1e-4] * t, 1), cut(np.array([[1], [0], [0]], np.uint8), np.arange(t)),
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
        heads_of_one([0.0] + [1.0] * (t - 1), [1e-4] * t, 3), cut(np.array([[1, 1, 0], [0, 1, 1]], np.uint8),
        np.array([-300 + i for i in range(300)] + [2 + i for i in range(300)])), np.full(3, 0.5, np.float32),
    )  # fmt: skip
    assert np.isfinite(found.loo).all()
    # Between the halves the target switches from the second haplotype to the first.
    np.testing.assert_allclose(found.dosage, [[0.5, 1.0, 0.5]], atol=1e-3)


@pytest.mark.parametrize("span", [1, 3, 5, 100])
def test_results_do_not_depend_on_the_span(span: int) -> None:
    given = with_ends(random_given(n=3, l=60))
    expected = copy(*given.arguments(two_models()))
    found = copy(*given.arguments(two_models()), forward_bytes=4 * 2 * given.states.shape[1] * span)
    np.testing.assert_allclose(found.dosage, expected.dosage, atol=1e-6)
    np.testing.assert_allclose(found.loo, expected.loo, atol=1e-6)


def test_more_heads_than_lanes_are_refused() -> None:
    given = with_ends(random_given())
    with pytest.raises(ValueError, match="at most 4 heads"):
        copy(*given.arguments([LiStephens()] * 5))


def rows_of(intervals: Intervals, s: int) -> list[list[int]]:
    """The alleles that each reference haplotype has in interval ``s``."""
    first, stop = intervals.bounds[s], intervals.bounds[s + 1]
    rows = np.zeros((intervals.counts[s], stop - first), int)
    for site in range(first, stop):
        rows[intervals.carriers[intervals.start[site] : intervals.start[site + 1]], site - first] = 1
    return [rows[number].tolist() for number in intervals.number[s]]


def test_cut_by_hand() -> None:
    alleles = np.array([[0, 0, 1, 1, 0, 1], [0, 0, 1, 0, 0, 1], [0, 1, 1, 0, 0, 1]], np.uint8)
    intervals = cut(alleles, np.array([-2, 1, 1 + 3, 9]))
    # up to -2: empty | up to 1: two | up to 4: three | up to 9: the last one | beyond: empty
    assert intervals.bounds.tolist() == [0, 0, 2, 5, 6, 6]
    assert intervals.counts.tolist() == [1, 2, 2, 1, 1]
    assert rows_of(intervals, 0) == [[], [], []]
    assert rows_of(intervals, 1) == [[0, 0], [0, 0], [0, 1]]
    assert rows_of(intervals, 2) == [[1, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert rows_of(intervals, 3) == [[1], [1], [1]]


def test_cut_keeps_every_allele() -> None:
    rng = np.random.default_rng(2)
    alleles = rng.integers(0, 2, (12, 70)).astype(np.uint8)
    intervals = cut(alleles, np.array([0, 4, 30, 69]))
    whole = np.concatenate([np.array(rows_of(intervals, s)) for s in range(4)], axis=1)
    np.testing.assert_array_equal(whole, alleles)
    distinct = [len(np.unique(part, axis=0)) for part in np.split(alleles, [1, 5, 31], axis=1)]
    assert intervals.counts.tolist() == [*distinct, 1]
