from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from optuna.trial import TrialState

from tests.helpers.studies import children, queued, run
from vcfbert.errors import InputError, VcfbertError
from vcfbert.exits import Interrupted
from vcfbert.training.progress import SilentProgress
from vcfbert.tuning.listing import trial_rows
from vcfbert.tuning.storage import first_number
from vcfbert.tuning.study import Worker, run_worker, summary

# Each test runs a whole study: seconds of work.
pytestmark = pytest.mark.integration


class DivergesOnce(SilentProgress):
    """Raises the error of a diverging loss in the first epoch of the first trial."""

    def __init__(self) -> None:
        self.diverged = False

    def begin(self, title: str, steps: int | None) -> None:
        if not self.diverged:
            self.diverged = True
            raise VcfbertError("diverged", "the loss became nan")


def test_divergence_ends_the_trial_and_not_the_study(root: Path, make: Callable[..., Worker]) -> None:
    study = run(make("v17", track=True, progress=DivergesOnce()), 2, root / "out")
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    failed, _ = children(study.user_attrs["run_id"])
    assert failed.data.tags["trial.state"] == "FAILED"
    assert failed.data.tags["trial.why"] == "the loss became nan"
    assert summary(study)["trials/fail"] == 1


def test_other_errors_end_the_study(make: Callable[..., Worker], tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run(make("v17", objective="val/r2/0-0.5"), 1, tmp_path / "out")  # 24 samples have no such frequency
    assert caught.value.code == "objective_missing"


class Stops(SilentProgress):
    """Interrupted in the third batch of the second epoch."""

    def __init__(self) -> None:
        self.at, self.batches = "", 0

    def begin(self, title: str, steps: int | None) -> None:
        self.at, self.batches = title, 0

    def step(self, figures: str) -> None:
        self.batches += 1
        if (self.at, self.batches) == ("epoch 2/3", 3):
            raise Interrupted(2)


def test_interrupted_trial_resumes_at_its_epoch_in_its_run(root: Path, make: Callable[..., Worker]) -> None:
    with pytest.raises(Interrupted):
        run(make("v18", track=True, epochs=3, heartbeat=600, progress=Stops()), 1, root / "out")
    study = run(make("v18", track=True, epochs=3, heartbeat=600), 1, root / "out")
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert [first_number(trial) for trial in study.trials] == [0, 0]
    (child,) = children(study.user_attrs["run_id"])
    assert (child.info.status, child.data.tags["trial.state"]) == ("FINISHED", "COMPLETE")
    steps = [m.step for m in mlflow.MlflowClient().get_metric_history(child.info.run_id, "val/f1")]
    assert steps == [0, 1, 2]  # the first epoch was not trained again
    assert len(trial_rows(study)) == 1


def test_trial_of_worker_dead_before_first_heartbeat_is_requeued(make: Callable[..., Worker], tmp_path: Path) -> None:
    worker = make("v17")
    study = queued(worker, 1)
    study.ask()  # taken from the queue, and never heard of again
    worker.storage.grace_period = 0
    assert worker.work(study) == 1
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]


def test_trial_fails_after_its_retries(root: Path, make: Callable[..., Worker]) -> None:
    worker = make("v17", track=True, retries=0)
    study = queued(worker, 1)
    tracker = worker.tracker(system_metrics=False)
    with tracker.start("dead", {}, {}) as run_id:
        trial = study.ask()
        trial.set_user_attr("run_id", run_id)
    worker.storage.grace_period = 0
    assert worker.work(study) == 0
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]
    dead = mlflow.get_run(run_id)
    assert (dead.info.status, dead.data.tags["trial.state"]) == ("FAILED", "FAILED")


def test_worker_that_missed_heartbeats_gives_up_its_trial(make: Callable[..., Worker]) -> None:
    class Declared(SilentProgress):
        """Another declares the trial dead in its first epoch."""

        def begin(self, title: str, steps: int | None) -> None:
            if study.trials[0].state == TrialState.RUNNING:
                worker.requeue(study, 0)

    worker = make("v17", progress=Declared())
    study = queued(worker, 1)
    assert worker.work(study) == 1
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]


def test_worker_without_a_study_is_refused(make: Callable[..., Worker]) -> None:
    with pytest.raises(InputError, match=r"no study .* was started") as caught:
        run_worker(make("v17"))
    assert caught.value.code == "study_missing"
    worker = make("v17")
    worker.create()
    with pytest.raises(InputError, match="was started"):  # its queue and its run are still to come
        run_worker(make("v17"))
    queued(worker, 1)
    assert run_worker(make("v17"))[1] == 1


def test_worker_of_another_study_is_told_the_difference(make: Callable[..., Worker]) -> None:
    there = make("v17")
    there.queue(there.create(), 1, "run")
    with pytest.raises(InputError, match=f"{there.identity.name} has another params.yaml\n") as caught:
        run_worker(make("v17", epochs=7))
    assert "the same panel, code and params.yaml" in str(caught.value.hint)
    changed = make("v17", epochs=7)
    changed.identity = dataclasses.replace(changed.identity, code="another")
    with pytest.raises(InputError, match=r"has another code \(vcfbert's source\) and another params.yaml\n"):
        run_worker(changed)
    with pytest.raises(InputError, match=r"for this data, code and params.yaml\n"):
        run_worker(make("v18"))
