"""Studies by several processes, of which some are killed, on SQLite and on a PostgreSQL that is restarted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pytest
import torch
import yaml
from optuna.trial import FrozenTrial, TrialState

from tests.helpers.demo_cut import cut_demo
from tests.helpers.postgres import Postgres, binaries, private_postgres
from vcfbert.config import profile_text
from vcfbert.tuning.listing import trial_rows
from vcfbert.tuning.storage import earlier_attempts, open_storage
from vcfbert.tuning.trial import WORKER

EPOCHS = 6
TRIALS = 3
SECONDS = 240  # within which a study must end, on a busy machine too


@dataclass
class Project:
    """A folder with a tiny panel and params.yaml, and processes that work there."""

    folder: Path
    url: str
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "VCFBERT_STUDIES": self.url}
        environment.pop("MLFLOW_TRACKING_URI", None)
        log = self.log.open("ab")
        program = [sys.executable, "-m", "vcfbert", "tune", *command]
        process = subprocess.Popen(program, cwd=self.folder, env=environment, stdout=log, stderr=log)
        self.started.append(process)
        return process

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def study(self) -> optuna.Study | None:
        storage = open_storage(self.url, heartbeat=1, retries=5)
        names = optuna.get_all_study_names(storage)
        return optuna.load_study(study_name=names[0], storage=storage) if names else None

    def trials(self) -> list[FrozenTrial]:
        study = self.study()
        return [] if study is None else study.get_trials()

    def until(self, what: str, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if true():
                return
            if any(process.poll() for process in self.started):
                break  # ended with an error
            time.sleep(0.1)
        raise AssertionError(f"not {what}: {[t.state.name for t in self.trials()]}\n{self.log.read_text()[-4000:]}")

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        assert process.wait(timeout=SECONDS) == 0, self.log.read_text()[-4000:]


def written(folder: Path) -> Path:
    params = yaml.safe_load(profile_text("cpu"))
    params["prepare"] |= {"panel": str(cut_demo(folder, samples=30, sites=300, targets=2)), "map": None}
    params["encode"] |= {"window": 64, "flank": 8}
    params["train"] |= {"epochs": EPOCHS, "samples_per_epoch": 16, "batch_size": 4, "patience": EPOCHS}
    params["tune"] |= {"epochs": 0, "heartbeat": 1, "objective": "val/r2/all", "layers": [4], "head_width": [8]}
    params["tune"]["startup"] = TRIALS + 1  # none is pruned: each must be seen to finish
    params["tune"]["k"] |= {"v18": [4, 8]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


@pytest.fixture
def projects(tmp_path: Path) -> Iterator[Callable[[str], Project]]:
    made: list[Project] = []

    def make(url: str) -> Project:
        made.append(Project(written(tmp_path), url))
        return made[-1]

    yield make
    for process in (process for project in made for process in project.started):
        process.kill()
        process.wait()


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed here, or there is no user who may run it")
    with private_postgres() as server:
        yield server


def two_workers_one_killed(project: Project, *, meanwhile: Callable[[], None] = lambda: None) -> int:
    """The first process is killed within a trial, the second carries the study to its end. The trial's number."""
    killed = project.start("--variant", "v18", "--trials", str(TRIALS))
    project.until("a queue", lambda: len(project.trials()) == TRIALS)
    helper = project.start("worker", "--variant", "v18")
    project.until("a trial of the helper", lambda: bool(running(project, helper)))
    project.until("an epoch of the other's", lambda: any(trained(project, n) == 1 for n in running(project, killed)))
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    (number,) = running(project, killed)
    meanwhile()
    project.finish(helper)
    return number


def running(project: Project, process: subprocess.Popen[bytes]) -> list[int]:
    """The trials in the process's hands: one, or none between two."""
    return [
        trial.number
        for trial in project.trials()
        if trial.state == TrialState.RUNNING and str(trial.user_attrs.get(WORKER)).endswith(f":{process.pid}")
    ]


def trained(project: Project, number: int) -> int:
    """Epochs in the trial's checkpoint."""
    paths = (project.folder / ".checkpoints").glob(f"tune/*/{number}/*/last.pt")
    return max((int(torch.load(path, weights_only=True)["run"]["epoch"]) for path in paths), default=0)


def check_whole(project: Project, killed: int) -> None:
    """Every trial finished, the killed one as a second attempt, in its own run, from its last epoch."""
    study = project.study()
    assert study is not None
    rows = trial_rows(study)
    assert [(row["trial"], row["state"]) for row in rows] == [(number, "COMPLETE") for number in range(TRIALS)]
    assert [row["taken_up"] for row in rows] == [int(number == killed) for number in range(TRIALS)]
    (attempt,) = (trial for trial in study.trials if earlier_attempts(trial))
    assert study.trials[killed].state == TrialState.FAIL
    assert attempt.params == study.trials[killed].params
    mlflow.set_tracking_uri(f"sqlite:///{project.folder / 'mlflow.db'}")
    runs: list[Any] = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=f"tags.mlflow.parentRunId = '{study.user_attrs['run_id']}'",
        output_format="list",
    )
    assert sorted(run.data.tags["trial.number"] for run in runs) == [str(number) for number in range(TRIALS)]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["trial.state"] for run in runs} == {"COMPLETE"}
    again = next(run for run in runs if run.data.tags["trial.number"] == str(killed))
    assert again.data.tags["trial.taken_up_as"] == str(attempt.number)
    steps = [m.step for m in mlflow.MlflowClient().get_metric_history(again.info.run_id, "val/f1")]
    # An epoch that was recorded and not yet checkpointed when its worker died is trained again, no other.
    assert sorted(set(steps)) == list(range(EPOCHS))
    assert len(steps) <= EPOCHS + 1
    assert list((project.folder / ".checkpoints").rglob("last.pt")) == []


def test_trial_of_killed_worker_is_requeued(projects: Callable[[str], Project], tmp_path: Path) -> None:
    project = projects(f"sqlite:///{tmp_path / 'studies.db'}")
    check_whole(project, two_workers_one_killed(project))
    # The study's own process was the one killed: called again it has nothing to train, and writes the report.
    project.finish(project.start("--variant", "v18", "--trials", str(TRIALS)))
    assert (project.folder / "reports/tune/v18/params.yaml").is_file()
    study = project.study()
    assert study is not None
    assert mlflow.get_run(study.user_attrs["run_id"]).info.status == "FINISHED"
    assert len(study.trials) == TRIALS + 1


def test_study_survives_postgres_restart_and_killed_worker(
    projects: Callable[[str], Project], postgres: Postgres
) -> None:
    project = projects(postgres.url)

    def away() -> None:
        postgres.control("stop")
        time.sleep(1.0)
        postgres.control("start")

    check_whole(project, two_workers_one_killed(project, meanwhile=away))
