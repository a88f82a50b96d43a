from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pytest
from optuna.trial import TrialState

from tests.helpers.studies import children, run, small_config
from tests.helpers.tiny import MemoryTracker, tiny_config
from vcfbert.genotypes.encoding import encode
from vcfbert.genotypes.panel import Panel
from vcfbert.tracker import NullTracker
from vcfbert.training.loop import Trainer
from vcfbert.training.result import FitOutput
from vcfbert.tuning import study as study_module
from vcfbert.tuning.space import suggest
from vcfbert.tuning.study import SeededByTrial, Worker
from vcfbert.tuning.trial import TrialRecord

# Each test runs a whole study: seconds of work.
pytestmark = pytest.mark.integration


def drawn(path: Path, *goes: int) -> list[dict[str, Any]]:
    """Parameters of a cheap study that was opened anew for each go."""
    tune = small_config(startup=3).tune
    for trials in goes:
        study = optuna.create_study(
            study_name="s", storage=f"sqlite:///{path}", sampler=SeededByTrial(tune), load_if_exists=True
        )
        study.optimize(lambda trial: suggest(trial, "v18", tune)["train.lr"], n_trials=trials)
    return [trial.params for trial in study.trials]


def test_continued_study_samples_the_same_parameters(tmp_path: Path) -> None:
    whole = drawn(tmp_path / "whole.db", 6)
    assert whole == drawn(tmp_path / "parts.db", 2, 4)
    assert len({params["train.lr"] for params in whole}) == 6


class FakeTrial:
    """What a record needs of a trial."""

    def __init__(self) -> None:
        self.user_attrs: dict[str, Any] = {}
        self.reported: list[int] = []

    def report(self, value: float, step: int) -> None:
        self.reported.append(step)

    def should_prune(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("variant", "every", "reported"),
    [
        ("v18", 1, [0, 1, 2, 3, 4, 5]),
        ("v18", 2, [0, 2, 4]),
        ("v18", 3, [0, 3]),
        ("v18", 0, [0]),
        ("v17", 3, [0, 1, 2, 3, 4, 5]),
        ("v19", 3, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_pruner_gets_only_epochs_with_a_new_index(variant: str, every: int, reported: list[int]) -> None:
    trial: Any = FakeTrial()
    record = TrialRecord(trial, NullTracker(), "val/f1", variant, "")
    for epoch in range(6):
        age = float(epoch % every if every and variant == "v18" else epoch)
        assert record.after_epoch(epoch, {"index/age": age, "val/f1": 0.5})
    assert trial.reported == reported


def test_trainer_has_a_new_index_at_reported_epochs(make: Callable[..., Worker], tmp_path: Path) -> None:
    """The whole way: epochs reported by a real V18 with refreshes every second epoch."""
    worker = make("v18", epochs=4, refresh_every=(2,))
    study = run(worker, 1, tmp_path / "out")
    assert list(study.trials[0].intermediate_values) == [0, 2]


def test_pruned_trial_ends_early_and_tags_its_run(
    root: Path, make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "_pruner", lambda tune: optuna.pruners.ThresholdPruner(lower=2.0))
    worker = make("v17", track=True, epochs=3)
    study = run(worker, 1, root / "out")
    (child,) = children(study.user_attrs["run_id"])
    assert study.trials[0].state == TrialState.PRUNED
    assert (child.info.status, child.data.tags["trial.state"]) == ("FINISHED", "PRUNED")
    assert [m.step for m in mlflow.MlflowClient().get_metric_history(child.info.run_id, "val/f1")] == [0]
    assert not (root / "out" / "params.yaml").exists()  # nothing to apply
    assert not (root / "checkpoints" / study.study_name).exists()


def test_fit_without_bundle_stops_on_request(tiny_panel: Panel, tmp_path: Path) -> None:
    config = tiny_config({"train": {"epochs": 3}})
    tracker, told = MemoryTracker(), []

    def after_epoch(epoch: int, metrics: Mapping[str, float]) -> bool:
        told.append((epoch, metrics["val/f1"]))
        return epoch < 1

    trainer = Trainer([tiny_panel], [encode(tiny_panel, config.encode)], config, "v17", accelerator="cpu")
    output = FitOutput(None, tracker, tmp_path / "checkpoints", tmp_path / "metrics.csv", tags={}, data={})
    result = trainer.fit(output, after_epoch=after_epoch)
    assert told == [(epoch, metrics["val/f1"]) for epoch, metrics in enumerate(tracker.epochs)]
    assert len(told) == 2
    assert (tracker.bundles, result.model_uri) == ([], "")
    assert not list((tmp_path / "checkpoints").iterdir())
