"""A study: a queue of trials in a database, shared by this process and any other worker."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import MedianPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from vcfbert.config import Config, TuneConfig
from vcfbert.errors import InputError
from vcfbert.exits import Interrupted
from vcfbert.genotypes.encoding import Encoding
from vcfbert.genotypes.panel import Panel
from vcfbert.tracker import Tracker
from vcfbert.tracking.mlflow_tracker import open_tracker
from vcfbert.tracking.store import project_root, store_lock
from vcfbert.training.progress import FitProgress, SilentProgress
from vcfbert.tuning.identity import Identity, identity
from vcfbert.tuning.storage import (
    RUN_ID,
    PatientStorage,
    RequeueTrial,
    earlier_attempts,
    first_number,
    open_storage,
    patiently,
)
from vcfbert.tuning.trial import REFRESH_SECONDS, SECONDS, Objective, TakenOver, TrialFailed

_FIRST_PRUNED = 1  # first epoch at which trials are pruned; figures of epoch 0 say little
_MIN_COMPARED = 2  # trials that must report an epoch before another can be pruned at it
_MAX_WAIT = 5.0  # seconds between two checks for trials of dead workers


class SeededByTrial(BaseSampler):
    """A TPE sampler seeded by the study's seed and the trial's number.

    A continued or shared study therefore never repeats random numbers, and a single worker that resumes a study samples
    the same parameters as without the interruption.
    """

    def __init__(self, tune: TuneConfig) -> None:
        self._tune = tune
        self._sampler = self._of(0)

    def _of(self, number: int) -> TPESampler:
        seed = (self._tune.seed * 1_000_003 + number) % 2**32
        return TPESampler(seed=seed, n_startup_trials=self._tune.startup)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler = self._of(trial.number)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where a study is stored."""

    storage: str  # URL of the database
    folder: Path  # of the trials' checkpoints; workers that resume each other's trials share it
    track: bool = True  # record in MLflow
    root: Path | None = None  # the project's folder; None = found from the current folder


class Worker:
    """Runs trials of one study, one at a time."""

    def __init__(
        self,
        panels: Sequence[Panel],
        encodings: Sequence[Encoding],
        config: Config,
        variant: str,
        settings: Settings,
        *,
        progress: FitProgress | None = None,
    ) -> None:
        self.config, self.variant, self.settings = config, variant, settings
        self._panels, self._encodings = panels, encodings
        self.progress = progress or SilentProgress()
        self.identity = self._identity()
        self.storage = storage_of(config, settings.storage)

    @property
    def root(self) -> Path:
        """The project's folder."""
        return self.settings.root or project_root()

    def tracker(self, *, system_metrics: bool = True) -> Tracker:
        """A tracker for one run."""
        return open_tracker(self.settings.root, enabled=self.settings.track, system_metrics=system_metrics)

    def _identity(self) -> Identity:
        return identity(self.config, self.variant, self._panels)

    def _objective(self, study: optuna.Study, folder: Path) -> Callable[[optuna.Trial], float]:
        return Objective(
            self._panels,
            self._encodings,
            self.config,
            self.variant,
            folder=folder,
            parent=study.user_attrs[RUN_ID],
            open_tracker=self.tracker,
            progress=self.progress,
        )

    def create(self) -> optuna.Study:
        """Creates the study, or loads it if it exists."""
        with store_lock(self.root, "studies"):
            study = optuna.create_study(
                study_name=self.identity.name,
                storage=self.storage,
                sampler=SeededByTrial(self.config.tune),
                pruner=_pruner(self.config.tune),
                direction="maximize",
                load_if_exists=True,
            )
            describe(study, self.identity, self.config.tune.objective)
        return study

    def queue(self, study: optuna.Study, trials: int, parent: str) -> None:
        """Fills the queue up to ``trials`` trials in total.

        ``parent``, the study's run in MLflow, is stored first, because the run of each trial becomes its child.
        """
        with store_lock(self.root, "studies"):
            study.set_user_attr(RUN_ID, parent)
            for _ in range(trials - len(last_attempts(study))):
                study.enqueue_trial({})

    def join(self) -> optuna.Study:
        """Loads the study of this data, code and settings. Raises InputError 'study_missing'."""
        name = self.identity.name
        try:
            sampler, pruner = SeededByTrial(self.config.tune), _pruner(self.config.tune)
            study = optuna.load_study(study_name=name, storage=self.storage, sampler=sampler, pruner=pruner)
        except KeyError:
            study = None
        if study is None or RUN_ID not in study.user_attrs:
            raise InputError(
                "study_missing",
                f"no study {name} was started for this data, code and params.yaml{self._others()}",
                hint="start it with `vcfbert tune`; its workers need the same panel, code and params.yaml, and storage",
            )
        return study

    def _others(self) -> str:
        """Text that says how the newest study of this variant differs; empty without one."""
        found = patiently(lambda: optuna.get_all_study_summaries(self.storage, include_best_trial=False))
        own = [one for one in found if one.user_attrs.get("variant") == self.variant and RUN_ID in one.user_attrs]
        if not own:
            return ""
        newest = max(own, key=lambda one: one.datetime_start or datetime.min)  # of its first trial
        named = {"data": "panel, split or map", "code": "code (vcfbert's source)", "settings": "params.yaml"}
        here = dataclasses.asdict(self.identity)
        differing = [what for key, what in named.items() if newest.user_attrs.get(key) != here[key]]
        return f"; {newest.study_name} has another {' and another '.join(differing)}"

    def work(self, study: optuna.Study) -> int:
        """Runs trials until none waits and none runs elsewhere. Returns the number of trials that ran here."""
        done, announced, folder = 0, False, self.settings.folder / study.study_name
        objective = self._objective(study, folder)
        while True:
            self._requeue_dead_trials(study)
            states = [trial.state for trial in patiently(lambda: study.get_trials(deepcopy=False))]
            if TrialState.WAITING in states:
                done, announced = done + self._one(study, objective), False
            elif TrialState.RUNNING in states:
                if not announced:
                    self.progress.message(f"{states.count(TrialState.RUNNING)} trials run elsewhere; waiting for them")
                announced = True
                time.sleep(min(_MAX_WAIT, self.config.tune.heartbeat))
            else:
                with contextlib.suppress(OSError):  # another worker may have removed it
                    folder.rmdir()
                return done

    def _one(self, study: optuna.Study, objective: Callable[[optuna.Trial], float]) -> bool:
        """Runs one trial. Returns whether it finished here."""
        numbers: list[int] = []

        def run(trial: optuna.Trial) -> float:
            numbers.append(trial.number)
            return objective(trial)

        try:
            study.optimize(run, n_trials=1, catch=(TrialFailed,))
        except Interrupted:
            if numbers:  # re-queued at once, without waiting for missed heartbeats
                self.requeue(study, numbers[0])
            raise
        except (TakenOver, ValueError) as error:
            # A worker that missed its heartbeats finds that its trial was re-queued.
            if not numbers or (isinstance(error, ValueError) and not _lost(study, numbers[0], error)):
                raise
            self.progress.message(f"trial {numbers[0]} was taken over by another worker")
            return False
        return True

    def requeue(self, study: optuna.Study, number: int) -> None:
        """Marks a running trial as failed and queues it again, if it has a retry left."""
        trial = next(t for t in study.get_trials(deepcopy=True) if t.number == number)
        if trial.state == TrialState.RUNNING:
            study.tell(number, state=TrialState.FAIL)
            RequeueTrial(self.config.tune.retries)(study, trial)

    def _requeue_dead_trials(self, study: optuna.Study) -> None:
        """Re-queues the trials of dead workers."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            patiently(lambda: optuna.storages.fail_stale_trials(study))
        # A worker may also die before its first heartbeat, with no parameters suggested yet.
        grace = timedelta(seconds=self.storage.grace_period or 0)
        for trial in patiently(lambda: study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))):
            if not trial.params and trial.datetime_start is not None and datetime.now() - trial.datetime_start > grace:
                with store_lock(self.root, "studies"):
                    self.requeue(study, trial.number)


def run_study(
    worker: Worker, trials: int, report: Callable[[optuna.Study], Mapping[Path, str | None]]
) -> tuple[optuna.Study, dict[Path, str | None]]:
    """Creates or continues the study, runs it up to ``trials`` trials, and records the files of ``report`` in its run.

    ``report`` returns its files, each with its folder among the artifacts.
    """
    tune, who = worker.config.tune, worker.identity
    study = worker.create()
    tracker = worker.tracker(system_metrics=False)
    params = {"variant": who.variant, "tune": dataclasses.asdict(tune)}
    tags = {"source": "tune", "kind": "study", "study": who.name, "study.code": who.code, "study.data": who.data}
    with tracker.start(f"study {who.name}", params, tags, run_id=study.user_attrs.get(RUN_ID)) as run_id:
        worker.queue(study, trials, run_id)
        worker.progress.message(f"study {who.name}, {len(last_attempts(study))} trials")
        worker.work(study)
        files = dict(report(study))
        for path, folder in files.items():
            tracker.log_artifact(path, folder)
        tracker.log_metrics(summary(study), 0)
    return study, files


def run_worker(worker: Worker) -> tuple[optuna.Study, int]:
    """Joins a study that was started elsewhere. Returns it and the number of trials that ran here."""
    study = worker.join()
    return study, worker.work(study)


def storage_of(config: Config, url: str) -> PatientStorage:
    """Opens the database of studies with the heartbeat and retries of ``config``."""
    return open_storage(url, heartbeat=config.tune.heartbeat, retries=config.tune.retries)


def describe(study: optuna.Study, who: Identity, objective: str) -> None:
    """Stores the study's identity and the name of its objective."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names([objective])
    for key, value in dataclasses.asdict(who).items():
        study.set_user_attr(key, value)


def last_attempts(study: optuna.Study) -> list[FrozenTrial]:
    """The trials of the study, each by its last attempt."""
    trials = patiently(lambda: study.get_trials(deepcopy=False))
    repeated = {number for trial in trials for number in earlier_attempts(trial)}
    return [trial for trial in trials if trial.number not in repeated]


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The best trial within the constraint; None without one."""
    try:
        return study.best_trial
    except ValueError:
        return None


def summary(study: optuna.Study) -> dict[str, float]:
    """Figures of a study as a whole: trials by state, costs, the best value."""
    trials = last_attempts(study)
    ends = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    figures = {f"trials/{end.name.lower()}": float(sum(trial.state == end for trial in trials)) for end in ends}
    for name in (SECONDS, REFRESH_SECONDS):
        figures[f"cost/{name}"] = sum(float(trial.user_attrs.get(name, 0.0)) for trial in trials)
    best = best_trial(study)
    if best is not None and best.value is not None:
        figures["best/value"] = best.value
        figures["best/trial"] = float(first_number(best))
    return figures


def _lost(study: optuna.Study, number: int, error: ValueError) -> bool:
    """Whether Optuna refused a trial's result because another worker had ended the trial."""
    state = next(t.state for t in study.get_trials(deepcopy=False) if t.number == number)
    return str(error).startswith("Cannot tell") and state.is_finished()


def _pruner(tune: TuneConfig) -> MedianPruner:
    return MedianPruner(n_startup_trials=tune.startup, n_warmup_steps=_FIRST_PRUNED, n_min_trials=_MIN_COMPARED)
