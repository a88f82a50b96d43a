from __future__ import annotations

from typing import Any

import optuna
import pytest

from tests.helpers.studies import small_config
from vcfbert.config import Config, TuneConfig, build
from vcfbert.errors import InputError
from vcfbert.tuning.space import searched, suggest, trial_config


@pytest.mark.parametrize("variant", ["v17", "v18", "v19"])
@pytest.mark.parametrize("name", ["cpu", "gpu", "original"])
def test_every_suggestion_of_every_profile_is_a_valid_configuration(variant: str, name: str) -> None:
    config = profile_config(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(20):
        values = suggest(study.ask(), variant, config.tune)
        tried = trial_config(config, values)
        assert tuple(values) == searched(variant, config.tune)
        assert tried.model.dims % tried.model.heads == 0
        assert tried.retrieval.k[variant] in config.tune.k[variant]
        assert ("retrieval.refresh_every" in values) == (variant == "v18")
        assert ("encode.copy_span_cm" in values) == (variant == "v19")


def profile_config(name: str) -> Config:
    from vcfbert.config import profile

    return profile(name)


def test_original_profile_searches_the_original_sizes() -> None:
    tune = profile_config("original").tune
    assert (tune.dims, tune.layers) == ((128, 192, 256), (8, 10, 12))


def test_trial_config_has_epochs_of_the_tune_section() -> None:
    assert trial_config(small_config(epochs=1), {}).train.epochs == 1
    assert trial_config(small_config(epochs=0), {}).train.epochs == small_config().train.epochs


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("head_width", (3,)),
        ("dims", ()),
        ("lr", (1e-2, 1e-3)),
        ("trials", 0),
        ("k", {"v17": (1,)}),
        ("constraint", "memory_mb"),  # without a limit
        ("refresh_every", ()),
    ],
)
def test_tune_section_out_of_bounds_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=r"tune\."):
        build(TuneConfig, {name: value}, "tune.")
