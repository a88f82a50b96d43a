"""The search for V19's rates: its steps, its counts, and the rates it finds for simulated panels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.helpers.tiny import panel_from_alleles, tiny_config
from vcfbert.copying.mixture import FIRST_RATES, FIRST_WEIGHTS, KNOTS, CopyingModel, Rates
from vcfbert.errors import InputError
from vcfbert.genotypes.encoding import hmm_windows
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.training import rate_search
from vcfbert.training.mixture_weights import SufficientStatistics
from vcfbert.training.rate_search import BOUNDS, LAST_STEPS, PARTS, RateSearch, descend, n_switches

# Each test searches rates by imputing: seconds of work.
pytestmark = pytest.mark.integration

START = Rates(5.0, 2e-3)


def both(rates: Rates) -> tuple[float, float]:
    return rates.switches_per_cm, rates.mismatch


@pytest.mark.parametrize("least", [(0.4, 1e-4), (30.0, 3e-2), (5.0, 2e-3)])
def test_descend_ends_within_a_step_of_minimum(least: tuple[float, float]) -> None:
    def loss(rates: Rates) -> float:
        return sum(math.log2(value / wanted) ** 2 for value, wanted in zip(both(rates), least, strict=True))

    for found, wanted, step in zip(both(descend(loss, START)), least, LAST_STEPS, strict=True):
        assert abs(math.log2(found / wanted)) <= step


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_descend_stays_within_bounds_and_evaluates_once(sign: float) -> None:
    asked: list[Rates] = []

    def loss(rates: Rates) -> float:
        asked.append(rates)
        return sign * (rates.switches_per_cm + rates.mismatch)

    found = descend(loss, START)
    assert both(found) == tuple(bound[0 if sign > 0 else 1] for bound in BOUNDS)
    assert len(set(asked)) == len(asked)


def test_descend_by_hand() -> None:
    """Switches get rarer by octaves and then by half ones. The mismatch stays: no step from it lowers the loss."""
    asked: list[Rates] = []

    def loss(rates: Rates) -> float:
        asked.append(rates)
        return abs(math.log2(rates.switches_per_cm / 2.0)) + abs(math.log2(rates.mismatch / 1e-3))

    assert descend(loss, Rates(8.0, 1e-3)) == Rates(2.0, 1e-3)
    assert [both(rates) for rates in asked] == [
        (16.0, 1e-3),
        (8.0, 1e-3),
        (4.0, 1e-3),
        (2.0, 1e-3),
        (1.0, 1e-3),
        (2.0, 4e-3),
        (2.0, 2.5e-4),
        (2.82843, 1e-3),
        (1.41421, 1e-3),
        (2.0, 2e-3),
        (2.0, 5e-4),
    ]


def test_descend_with_known_losses_takes_same_path_without_them() -> None:
    losses: dict[Rates, float] = {}

    def loss(rates: Rates) -> float:
        losses[rates] = math.log2(rates.switches_per_cm / 40.0) ** 2 + math.log2(rates.mismatch / 1e-4) ** 2
        return losses[rates]

    found = descend(loss, START)
    before = dict(losses)
    known = dict(list(before.items())[: len(before) // 2])
    losses.clear()
    assert descend(loss, START, known) == found
    assert losses == {rates: value for rates, value in before.items() if rates not in known}


def test_n_switches_by_hand() -> None:
    truth = np.array([[0, 1], [1, 0], [1, 1], [0, 1], [0, 1], [1, 0]], dtype=np.int8)[:, None]
    phase = truth.copy()
    assert n_switches(phase, truth) == 0
    assert n_switches(phase[..., ::-1], truth) == 0  # the order of a sample's haplotypes is arbitrary
    phase[3:] = phase[3:, :, ::-1]
    assert n_switches(phase, truth) == 1
    phase[4] = -1  # a missing call is skipped
    assert n_switches(phase, truth) == 1
    twice = np.concatenate([phase, phase], axis=1)
    assert n_switches(twice, np.concatenate([truth, truth], axis=1)) == 2


def mosaics(switches_per_cm: float, *, n_samples: int = 60, n_sites: int = 600, seed: int = 3) -> Panel:
    """Haplotypes that each copy one of 12 founders at a time, over 6 cM."""
    rng = np.random.default_rng(seed)
    founders = (rng.random((12, n_sites)) < rng.uniform(0.1, 0.5, n_sites)).astype(np.uint8)
    switch = rng.random((2 * n_samples, n_sites)) < 1.0 - math.exp(-switches_per_cm * 6.0 / n_sites)
    switch[:, 0] = True
    chosen = rng.integers(len(founders), size=switch.shape)
    held = np.maximum.accumulate(np.where(switch, np.arange(n_sites), 0), axis=1)
    founder = np.take_along_axis(chosen, held, axis=1)
    validation = tuple(range(0, n_samples, 5))
    return panel_from_alleles(
        founders[founder, np.arange(n_sites)], cm=np.arange(n_sites) * 0.01, validation=validation
    )


class Kept:
    """A listener that keeps each loss by stage, and knows those of an earlier search."""

    def __init__(self, known: Mapping[str, Mapping[Rates, float]] | None = None) -> None:
        self.known_before = known or {}
        self.losses: dict[str, dict[Rates, float]] = {}

    def begin(self, stage: str) -> None:
        assert stage not in self.losses
        self.losses[stage] = {}

    def known(self, stage: str) -> Mapping[Rates, float]:
        return self.known_before.get(stage, {})

    def tried(self, stage: str, rates: Rates, loss: float) -> None:
        assert rates not in self.losses[stage]
        self.losses[stage][rates] = loss


def search_of(panel: Panel, listener: Kept, **masks: float) -> RateSearch:
    config = tiny_config(
        {
            "encode": {"copy_window": 300, "copy_span_cm": 1.0},
            "masks": {"array_density": (0.1, 0.1), **masks},
        }
    )
    return RateSearch([ReferenceSubset(panel, panel.training_haplotypes)], config, k=60, threads=1, listener=listener)


def searched(panel: Panel, **masks: float) -> tuple[CopyingModel, dict[str, float], dict[str, dict[Rates, float]]]:
    listener = Kept()
    model, figures = search_of(panel, listener, **masks).search()
    return model, figures, listener.losses


def rates_of(model: CopyingModel) -> dict[str, Rates]:
    """The rates that each search set, by the stage's name."""
    return {"pair": model.pair, "phased": model.phased.rates, "sampled": model.sampled.rates}


def test_panel_of_longer_matches_gets_lower_rates() -> None:
    found = {per_cm: searched(mosaics(per_cm)) for per_cm in (0.3, 5.0)}
    (rare, _, _), (frequent, _, _) = found[0.3], found[5.0]
    for stage, rates in rates_of(rare).items():
        assert rates.switches_per_cm < 0.7 * rates_of(frequent)[stage].switches_per_cm
    for _, figures, _ in found.values():
        assert all(math.isfinite(value) for value in figures.values())


def test_search_sets_rates_of_least_loss_in_each_stage() -> None:
    model, figures, losses = searched(mosaics(0.3))
    assert list(losses) == ["panel", "pair", "phased", "sampled"]
    for stage, rates in rates_of(model).items():
        assert rates == min(losses[stage], key=losses[stage].__getitem__)
        assert both(rates) == (figures[f"search/{stage}_rate"], figures[f"search/{stage}_mismatch"])
    assert losses["panel"][FIRST_RATES] > min(losses["panel"].values())


def test_search_from_poor_rates_lowers_loss_to_that_of_good_start(monkeypatch: pytest.MonkeyPatch) -> None:
    panel, poor = mosaics(0.3), Rates(120.0, 5e-2)
    _, good, _ = searched(panel)
    monkeypatch.setattr(rate_search, "FIRST_RATES", poor)
    _, figures, losses = searched(panel)
    assert figures["val/genotype_loss"] < 0.7 * losses["panel"][poor]
    assert figures["val/genotype_loss"] == pytest.approx(good["val/genotype_loss"], rel=0.05)


def test_weights_are_fitted_only_with_gain_on_other_half() -> None:
    model, figures, _ = searched(mosaics(2.0))
    first = np.tile(FIRST_WEIGHTS, (len(KNOTS), 1))
    for name, mixture in (("phased", model.phased), ("sampled", model.sampled)):
        np.testing.assert_allclose(mixture.weights.sum(axis=1), 1.0)
        assert (figures[f"search/{name}_weights_gain"] == 0.0) == np.array_equal(mixture.weights, first)


def test_known_losses_are_not_computed_again() -> None:
    panel, whole = mosaics(2.0), Kept()
    model, figures = search_of(panel, whole).search()
    known = {"panel": whole.losses["panel"], "pair": dict(list(whole.losses["pair"].items())[:3])}
    rest = Kept(known)
    continued, again = search_of(panel, rest).search()
    assert {stage: {**known.get(stage, {}), **found} for stage, found in rest.losses.items()} == whole.losses
    assert not any(set(found) & set(known.get(stage, {})) for stage, found in rest.losses.items())
    for name, array in model.as_arrays().items():
        np.testing.assert_array_equal(continued.as_arrays()[name], array, err_msg=name)
    assert {**figures, "search/seconds": 0.0} == {**again, "search/seconds": 0.0}


def test_searched_windows_lie_in_middle_of_halves_of_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    whole_type = RateSearch._type

    def noted(search: RateSearch, number: int, typing: int) -> Any:
        chosen.append(number)
        return whole_type(search, number, typing)

    monkeypatch.setattr(RateSearch, "_type", noted)
    monkeypatch.setattr(rate_search, "MAX_TYPINGS", 1)
    search_of(mosaics(2.0, n_sites=2400), Kept()).search()  # 8 windows
    assert chosen == [2, 6]


def test_windows_without_site_to_impute_are_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short scaffolds before and after a chromosome: both windows are the chromosome's."""
    monkeypatch.setattr(rate_search, "MAX_TYPINGS", 1)
    panel = mosaics(2.0)
    scaffolds = [mosaics(2.0, n_sites=n_sites) for n_sites in (1, 1, 1, 5, 1, 1, 1, 1)]
    scaffolds[3] = panel_from_alleles(np.zeros((120, 5), np.uint8), validation=panel.validation)
    panels = [*scaffolds[:4], panel, *scaffolds[4:]]
    references = [ReferenceSubset(one, one.training_haplotypes) for one in panels]
    config = tiny_config({"encode": {"copy_window": 300, "copy_span_cm": 1.0}})
    search = RateSearch(references, config, k=40, threads=1, listener=Kept())
    assert [one.window.reference for one in search._typed] == [references[4]] * 2


def test_panels_without_site_to_impute_are_refused() -> None:
    panel = mosaics(2.0, n_sites=1)
    with pytest.raises(InputError) as caught:
        search_of(panel, Kept()).search()
    assert caught.value.code == "too_few_sites"


def test_typed_calls_have_configured_errors_and_missing_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = mosaics(2.0)
    typed: dict[bytes, tuple[npt.NDArray[np.int64], npt.NDArray[np.int8]]] = {}
    truths: list[npt.NDArray[np.int64]] = []
    windows_of, of = rate_search.unphased_windows, SufficientStatistics.of

    def phased(reference: ReferenceSubset, key: Any, calls: Any, *rest: Any, **options: Any) -> Any:
        assert not set(reference.haplotypes.tolist()) & set(panel.validation_haplotypes.tolist())
        assert calls.shape == typed.setdefault(key.tobytes(), (key, calls))[1].shape
        return windows_of(reference, key, calls, *rest, **options)

    def counted(dosage: Any, truth: Any, knots: Any) -> SufficientStatistics:
        truths.append(truth)
        return of(dosage, truth, knots)

    monkeypatch.setattr(rate_search, "unphased_windows", phased)
    monkeypatch.setattr(rate_search, "MAX_TYPINGS", 1)
    monkeypatch.setattr(SufficientStatistics, "of", counted)
    searched(panel, typing_error=0.05, missing=0.1)
    assert len(typed) == 2  # windows
    for key, calls in typed.values():
        truth = panel.alleles(key, panel.validation_haplotypes).T.reshape(calls.shape)
        missing = (calls < 0).any(axis=2)
        assert 0.05 < missing.mean() < 0.15
        assert (calls[missing] < 0).all()
        assert 0.02 < (calls != truth)[~missing].mean() < 0.08
    windows = hmm_windows(panel, 300, 1.0)
    reference = ReferenceSubset(panel, panel.training_haplotypes)
    for number, (window, (key, _)) in enumerate(zip(windows, typed.values(), strict=False)):
        untyped = np.setdiff1d(np.arange(*window.core), key)
        scored = untyped[(reference.af[untyped] > 0.0) & (reference.af[untyped] < 1.0)]
        genotypes = panel.alleles(scored, panel.validation_haplotypes).reshape(-1, 2, len(scored)).sum(axis=1)
        for part, truth in enumerate(truths[number * PARTS : (number + 1) * PARTS]):
            np.testing.assert_array_equal(truth, genotypes[part::PARTS])


@pytest.mark.parametrize(("searched_sites", "expected"), [(1, 2), (1_200, 4), (100_000, 8)])
def test_small_panel_is_typed_by_several_arrays(
    monkeypatch: pytest.MonkeyPatch, searched_sites: int, expected: int
) -> None:
    panel = mosaics(2.0)
    arrays: list[bytes] = []
    windows_of = rate_search.unphased_windows

    def phased(reference: ReferenceSubset, key: Any, *rest: Any, **options: Any) -> Any:
        arrays.append(key.tobytes())
        return windows_of(reference, key, *rest, **options)

    monkeypatch.setattr(rate_search, "unphased_windows", phased)
    monkeypatch.setattr(rate_search, "SEARCHED_SITES", searched_sites)
    searched(panel)
    assert len(arrays) == len(set(arrays)) == expected
