"""One model trained on panels of several chromosomes, one of them with haploid samples."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.helpers.fit_tiny import AnyEpochTracker
from tests.helpers.tiny import haploid_panel, random_panel, tiny_config
from vcfbert.bundle.load import load_bundle
from vcfbert.config import Config
from vcfbert.genotypes.encoding import encode
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.store import data_digest, panel_digest, panels_digest
from vcfbert.training.loop import Trainer
from vcfbert.training.result import FitOutput, FitResult

# Each test fits a model: seconds of work.
pytestmark = pytest.mark.integration


def panels() -> list[Panel]:
    males = dataclasses.replace(haploid_panel(70, validation=(3, 4)), region=Region("X", 101, 9_000))
    return [random_panel(9, 90, seed=1, validation=(2, 5)), dataclasses.replace(males, digest=panel_digest(males))]


def trainer_of(config: Config, variant: str) -> Trainer:
    both = panels()
    return Trainer(both, [encode(panel, config.encode) for panel in both], config, variant, accelerator="cpu")


def fit(trainer: Trainer, folder: Path) -> FitResult:
    checkpoints, metrics_csv = folder / "checkpoints", folder / "metrics.csv"
    return trainer.fit(FitOutput(folder / "model", AnyEpochTracker(), checkpoints, metrics_csv, tags={}, data={}))


@pytest.mark.parametrize("variant", ["v17", "v18"])
def test_fit_on_several_panels_writes_bundle_of_all(tmp_path: Path, variant: str) -> None:
    config = tiny_config({"retrieval": {"k": {"v17": 2, "v18": 5, "v19": 5}}})
    trainer = trainer_of(config, variant)
    assert trainer.parts.k == min(config.retrieval.k[variant], 7 - 2)  # X has seven training haplotypes
    result = fit(trainer, tmp_path)
    bundle = load_bundle(tmp_path / "model")
    assert result.data_digest == bundle.panel_digest == panels_digest(panels())
    assert [panel.haploid for panel in bundle.panels] == [(), (1, 3)]
    assert [str(panel.region) for panel in bundle.panels] == ["20", "X:101-9000"]
    assert [len(part.reference) for part in bundle.parts] == [18, 10]
    assert 0.0 < result.metrics["val/loss"] < 2.0


def test_validation_scores_all_panels() -> None:
    trainer = trainer_of(tiny_config(), "v17")
    whole = trainer.validator.validate(0)
    trainer.parts.data.panels = trainer.parts.data.panels[:1]
    trainer.parts.data.retrievers = trainer.parts.data.retrievers[:1]
    assert trainer.validator.validate(0)["val/loss"] != whole["val/loss"]


def test_restore_loads_retriever_of_every_panel(tmp_path: Path) -> None:
    config = tiny_config({"train": {"epochs": 2}})
    trainer, other = trainer_of(config, "v18"), trainer_of(config, "v18")
    trainer.epoch_trainer.train(0, trainer.run)
    trainer.refresh(1)
    other.restore(trainer.state())
    for before, after in zip(trainer.parts.data.retrievers, other.parts.data.retrievers, strict=True):
        assert torch.equal(before.index.weights, after.index.weights)
        assert not torch.equal(after.index.weights, torch.ones_like(after.index.weights))


def test_data_digest_covers_panels_splits_and_maps() -> None:
    first, second = panels()
    digests = {
        data_digest([first, second]),
        data_digest([second, first]),
        data_digest([first]),
        data_digest([first, dataclasses.replace(second, validation=(0,))]),
        data_digest([first, dataclasses.replace(second, cm=second.cm * 2)]),
    }
    assert len(digests) == 5
