"""Studies small enough to run in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import optuna

from tests.helpers.tiny import tiny_config
from vcfbert.config import Config
from vcfbert.tuning.plots import write_report
from vcfbert.tuning.study import Worker, run_study

SMALL: dict[str, Any] = {
    "trials": 2,
    "epochs": 0,
    "startup": 1,
    "objective": "val/r2/all",
    "dims": (8, 16),
    "layers": (1,),
    "head_width": (8,),
    "warmup_steps": (2, 4),
    "k": {"v17": (1, 2), "v18": (4, 8), "v19": (8, 12)},
    "refresh_every": (1, 2),
    "heartbeat": 1,
}


def small_config(**tune: Any) -> Config:
    return tiny_config({"tune": {**SMALL, **tune}, "train": {"samples_per_epoch": 8}})


def run(worker: Worker, trials: int, out: Path) -> optuna.Study:
    study, _ = run_study(worker, trials, lambda study: write_report(study, worker.config, worker.variant, out))
    return study


def queued(worker: Worker, trials: int) -> optuna.Study:
    study = worker.create()
    worker.queue(study, trials, "")
    return study


def children(parent: str) -> list[Any]:
    found = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=f"tags.mlflow.parentRunId = '{parent}'",
        output_format="list",
    )
    return sorted(found, key=lambda run: int(run.data.tags["trial.number"]))
