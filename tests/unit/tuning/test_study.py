from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pytest
from optuna.trial import TrialState

from tests.helpers.studies import children, run, small_config
from vcfbert.tuning.listing import trial_rows
from vcfbert.tuning.space import suggest
from vcfbert.tuning.study import Worker, best_trial

# Each test runs a whole study: seconds of work.
pytestmark = pytest.mark.integration


def test_study_is_recorded_and_continued(root: Path, make: Callable[..., Worker]) -> None:
    study = run(make("v18", track=True), 2, root / "out")
    parent = mlflow.get_run(study.user_attrs["run_id"])
    runs = children(parent.info.run_id)
    assert [r.data.tags["trial.state"] for r in runs] == ["COMPLETE", "COMPLETE"]
    for trial, child in zip(study.trials, runs, strict=True):
        assert child.info.status == "FINISHED"
        assert child.data.params["train.lr"] == str(suggest_again(trial)["train.lr"])
        assert child.data.metrics["cost/seconds"] >= trial.user_attrs["seconds"] - 1e-3 > 0
        assert child.data.metrics["cost/refresh_seconds"] >= 0
        assert child.data.metrics["cost/memory_mb"] > 0
        history = mlflow.MlflowClient().get_metric_history(child.info.run_id, "val/r2/all")
        assert trial.value in [m.value for m in history]
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["trials/complete"] == 2
    assert parent.data.metrics["best/value"] == max(trial.value or 0.0 for trial in study.trials)
    client = mlflow.MlflowClient()
    assert {a.path for a in client.list_artifacts(parent.info.run_id)} >= {"params.yaml", "trials.csv", "plots"}
    again = run(make("v18", track=True), 3, root / "out")
    assert len(again.trials) == 3
    assert again.user_attrs["run_id"] == parent.info.run_id
    assert len(children(parent.info.run_id)) == 3


def suggest_again(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    return suggest(optuna.trial.FixedTrial(trial.params), "v18", small_config().tune)


def test_study_page_has_four_figures_and_needs_no_network(make: Callable[..., Worker], tmp_path: Path) -> None:
    study = run(make("v18", epochs=1), 6, tmp_path / "out")
    page = (tmp_path / "out" / "study.html").read_text()
    for title in ("Importance of parameters", "History", "Slices", "Refresh frequency against quality"):
        assert f"<h2>{title}</h2>" in page
    assert "No figure" not in page
    assert '<script src="' not in page
    assert page.count("plotly.js v") == 1  # the library itself, once
    assert (tmp_path / "out" / "trials.csv").read_text().count("\n") == 7
    assert [row["state"] for row in trial_rows(study)] == ["COMPLETE"] * 6


def test_study_page_with_few_trials_names_missing_figures(make: Callable[..., Worker], tmp_path: Path) -> None:
    run(make("v17"), 1, tmp_path / "out")
    assert "No figure" in (tmp_path / "out" / "study.html").read_text()


def test_best_trial_is_within_the_constraint(make: Callable[..., Worker], tmp_path: Path) -> None:
    study = run(make("v17", constraint="memory_mb", limit=1.0), 1, tmp_path / "out")
    assert study.trials[0].state == TrialState.COMPLETE
    assert [row["feasible"] for row in trial_rows(study)] == [False]
    assert best_trial(study) is None
    assert not (tmp_path / "out" / "params.yaml").exists()
    within = run(make("v17", constraint="memory_mb", limit=1e6), 1, tmp_path / "out")
    assert within.study_name != study.study_name
    assert best_trial(within) is not None
