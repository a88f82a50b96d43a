from __future__ import annotations

import dataclasses

from tests.helpers.studies import small_config
from tests.helpers.tiny import random_panel
from vcfbert.tuning.identity import code_digest, identity
from vcfbert.tuning.space import trial_config


def test_identity_depends_on_variant_data_code_and_settings() -> None:
    panel, other = random_panel(8, 40, seed=1), random_panel(8, 40, seed=2)
    config = small_config()
    own = identity(config, "v18", [panel])
    assert own.code == code_digest()
    names = {
        own.name,
        dataclasses.replace(own, code="another").name,
        identity(config, "v17", [panel]).name,
        identity(config, "v18", [other]).name,
        identity(config, "v18", [dataclasses.replace(panel, cm=panel.cm * 2)]).name,
        identity(small_config(epochs=1), "v18", [panel]).name,
        identity(small_config(dims=(8,)), "v18", [panel]).name,
    }
    assert len(names) == 7


def test_identity_ignores_trials_and_searched_parameters() -> None:
    panel = random_panel(8, 40, seed=1)
    config = small_config()
    applied = trial_config(config, {"model.dims": 16, "model.heads": 2, "train.lr": 1e-3, "retrieval.k.v18": 4})
    more = dataclasses.replace(config, tune=dataclasses.replace(config.tune, trials=99))
    assert identity(applied, "v18", [panel]) == identity(more, "v18", [panel]) == identity(config, "v18", [panel])
    assert identity(applied, "v17", [panel]) != identity(config, "v17", [panel])  # k of v18 is not searched there
