"""The search for V19's rates: its steps, its counts, and the rates it finds for simulated panels."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from tests.helpers.tiny import panel_from_alleles, tiny_config
from vcfbert.genotypes.encoding import encode
from vcfbert.genotypes.panel import Panel
from vcfbert.training.hmm_recipe import HmmRecipe
from vcfbert.training.loop import Trainer
from vcfbert.training.rate_search import BOUNDS, LAST_STEPS, Rates, RateSearch, descend, n_switches


@pytest.mark.parametrize("least", [(0.4, 1e-4), (30.0, 3e-2), (5.0, 2e-3)])
def test_descend_ends_within_a_step_of_minimum(least: Rates) -> None:
    def loss(rates: Rates) -> float:
        return sum(math.log2(value / wanted) ** 2 for value, wanted in zip(rates, least, strict=True))

    for found, wanted, step in zip(descend(loss, (5.0, 2e-3)), least, LAST_STEPS, strict=True):
        assert abs(math.log2(found / wanted)) <= step


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_descend_stays_within_bounds_and_evaluates_once(sign: float) -> None:
    asked: list[Rates] = []

    def loss(rates: Rates) -> float:
        asked.append(rates)
        return sign * (rates[0] + rates[1])

    found = descend(loss, (5.0, 2e-3))
    assert found == tuple(bound[0 if sign > 0 else 1] for bound in BOUNDS)
    assert len(set(asked)) == len(asked)


def test_n_switches_by_hand() -> None:
    truth = np.array([[0, 1], [1, 0], [1, 1], [0, 1], [0, 1], [1, 0]], dtype=np.int8)[:, None]
    phase = truth.copy()
    assert n_switches(phase, truth) == 0
    assert n_switches(phase[..., ::-1], truth) == 0  # the order of a sample's haplotypes is arbitrary
    phase[3:] = phase[3:, :, ::-1]
    assert n_switches(phase, truth) == 1
    phase[4] = -1  # a missing call is skipped
    assert n_switches(phase, truth) == 1
    both = np.concatenate([phase, phase], axis=1)
    assert n_switches(both, np.concatenate([truth, truth], axis=1)) == 2


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


MASKS = {"array_density": (0.04, 0.05)}
K = {"v17": 2, "v18": 8, "v19": 60}


def start_of(panel: Panel) -> RateSearch:
    config = tiny_config({"encode": {"copy_window": 300, "copy_span_cm": 1.0}, "masks": MASKS, "retrieval": {"k": K}})
    masks = dataclasses.replace(config.masks, array_density=(0.1, 0.1))
    config = dataclasses.replace(config, masks=masks)
    trainer = Trainer([panel], [encode(panel, config.encode)], config, "v19", accelerator="cpu")
    assert isinstance(trainer.parts.recipe, HmmRecipe)
    return trainer.parts.recipe.search


def test_panel_of_longer_matches_gets_lower_rates() -> None:
    found = {per_cm: start_of(mosaics(per_cm)).search() for per_cm in (0.3, 5.0)}
    for name in ("start/phasing_rate", "start/phased_rate", "start/drawn_rate"):
        assert found[0.3][name] < 0.7 * found[5.0][name]
    for rates in found.values():
        assert all(math.isfinite(value) for value in rates.values())


def test_search_sets_rates_that_lower_loss() -> None:
    start = start_of(mosaics(0.3))
    model = start.model
    found = start.search()
    after = start.loss()
    heads = (model.phasing, model.hmms()[0], model.hmms(sampled=True)[0])
    for head, name in zip(heads, ("phasing", "phased", "drawn"), strict=True):
        assert float(head.log_rate.detach().exp()) == pytest.approx(found[f"start/{name}_rate"], rel=1e-4)
        assert float(head.mismatch_logit.detach().sigmoid()) == pytest.approx(found[f"start/{name}_mismatch"], rel=1e-4)
    for sampled in (False, True):
        model.set_heads(40.0, 1e-2, sampled=sampled)
    assert after < start.loss()


def test_typed_calls_have_configured_errors_and_missing_calls() -> None:
    start = start_of(mosaics(2.0))
    start.data.masks = dataclasses.replace(start.data.masks, typing_error=0.05, missing=0.1)
    reference = start.data.panels[0].reference
    panel = reference.panel
    for typed in start.typed:
        key = typed.context.key.numpy()
        truth = panel.alleles(key, panel.validation_haplotypes).T.reshape(typed.calls.shape)
        missing = (typed.calls < 0).any(axis=2)
        assert 0.05 < missing.mean() < 0.15
        assert (typed.calls[missing] < 0).all()
        assert 0.02 < (typed.calls != truth)[~missing].mean() < 0.08
        assert not typed.scored[typed.context.typed].any()
    assert not set(reference.haplotypes.tolist()) & set(panel.validation_haplotypes.tolist())
