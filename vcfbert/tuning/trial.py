"""A trial: one training with suggested parameters, without a bundle, as a child run in MLflow.

**Pruning at equal index age.** V18 retrieves by embeddings that grow old between refreshes, and its validation figures
sink and rise with them. A trial that refreshes every third epoch, measured just before a refresh, would be compared
with one that refreshes every epoch at an unfair moment, and pruned for an age that passes. So a figure is reported to
the pruner only from epochs that begin with a new index (age 0), under the epoch's number: two trials are compared where
both have trained equally long and both have just refreshed, whatever their ``refresh_every``. Without refreshes there
is such an epoch only at the start, which the pruner passes over: such a trial is never pruned. V17 and V19 have no
learned index and report every epoch.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.exceptions import UpdateFinishedTrialError

from vcfbert.config import Config
from vcfbert.errors import InputError, VcfbertError
from vcfbert.genotypes.encoding import Encoding
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.store import panels_digest
from vcfbert.tracker import Tracker
from vcfbert.training.host_memory import trim_memory
from vcfbert.training.loop import Trainer
from vcfbert.training.progress import FitProgress
from vcfbert.tuning.space import learns_retrieval, suggest, trial_config
from vcfbert.tuning.storage import RUN_ID, first_number, patiently

# Costs of a trial, all its sessions: user attributes in the study, metrics in MLflow.
SECONDS, REFRESH_SECONDS = "seconds", "refresh_seconds"
MEMORY, MS_PER_BATCH = "memory_mb", "ms_per_batch"
COSTS = (SECONDS, REFRESH_SECONDS, MEMORY, MS_PER_BATCH)
WORKER = "worker"  # user attribute: host and process of the latest attempt
UNLUCKY = ("diverged", "out_of_memory")  # errors of a trial's parameters, which do not end the study


class TrialFailed(Exception):
    """The parameters of this trial do not work; the study goes on."""


class TakenOver(Exception):
    """This worker was taken for dead, and another has the trial."""


class Objective:
    """Trains with what a trial suggests; its value is ``config.tune.objective`` of the best epoch."""

    def __init__(
        self,
        panels: Sequence[Panel],
        encodings: Sequence[Encoding],
        config: Config,
        variant: str,
        *,
        folder: Path,
        parent: str,
        open_tracker: Callable[[], Tracker],
        progress: FitProgress,
    ) -> None:
        """``folder``: of the trials' checkpoints; ``parent``: the study's run in MLflow."""
        self._panels, self._encodings, self._config, self._variant = panels, encodings, config, variant
        self._folder, self._parent, self._open_tracker, self._progress = folder, parent, open_tracker, progress

    def __call__(self, trial: optuna.Trial) -> float:
        tune = self._config.tune
        values = suggest(trial, self._variant, tune)
        config = trial_config(self._config, values)
        # By the first attempt's number: two trials may well have the same parameters, and so the same checkpoint.
        folder = self._folder / str(first_number(_frozen(trial)))
        shown = "  ".join(f"{path} {value}" for path, value in values.items())
        self._progress.message(f"trial {trial.number}  {shown}")
        patiently(lambda: trial.set_user_attr(WORKER, f"{socket.gethostname()}:{os.getpid()}"))
        record = TrialRecord(trial, self._open_tracker(), tune.objective, self._variant, self._parent)
        _forget_peak_memory()
        try:
            trainer = Trainer(self._panels, self._encodings, config, self._variant, progress=self._progress)
            result = trainer.fit(
                None,
                tracker=record,
                checkpoints=folder,
                metrics_csv=folder / "metrics.csv",
                tags={"source": "tune", "study": trial.study.study_name},
                data={"panel": panels_digest(self._panels)},
                after_epoch=record.after_epoch,
            )
        except VcfbertError as error:
            if error.code not in UNLUCKY:
                raise
            shutil.rmtree(folder, ignore_errors=True)
            self._progress.message(f"trial {trial.number}  failed: {error.what}")
            raise TrialFailed(error.what) from error
        except UpdateFinishedTrialError as error:
            raise TakenOver from error
        shutil.rmtree(folder, ignore_errors=True)
        if tune.constraint != "none":
            excess = record.costs[tune.constraint] - tune.limit
            patiently(lambda: trial.set_constraint(tune.constraint, excess))
        if record.pruned:
            self._progress.message(f"trial {trial.number}  pruned after {record.costs[SECONDS]:.0f} s")
            raise optuna.TrialPruned
        value = _value(result.metrics, tune.objective)
        self._progress.message(f"trial {trial.number}  {tune.objective} {value:.4f}  {record.costs[SECONDS]:.0f} s")
        return value


class TrialRecord:
    """The trainer's tracker for a trial: its run in MLflow, its costs, its reports to the pruner."""

    def __init__(self, trial: optuna.Trial, tracker: Tracker, objective: str, variant: str, parent: str) -> None:
        self._trial, self._tracker, self._objective, self._parent = trial, tracker, objective, parent
        self._ages = learns_retrieval(variant)
        self.pruned = False
        kept = patiently(lambda: trial.user_attrs)  # of earlier attempts
        self.costs = {name: float(kept.get(name, 0.0)) for name in COSTS}
        self._run_id: str | None = kept.get(RUN_ID)

    @contextmanager
    def start(
        self,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        *,
        run_id: str | None = None,
        parent: str | None = None,
    ) -> Iterator[str]:
        """The run of an attempt whose worker died is gone on with, whether or not it left a checkpoint."""
        frozen = _frozen(self._trial)
        first = first_number(frozen)
        tags = {**tags, "trial.number": str(first), "trial.state": "RUNNING"}
        if frozen.number != first:
            tags["trial.taken_up_as"] = str(frozen.number)
        known = run_id or self._run_id
        with self._tracker.start(
            f"{name} trial {first}", params, tags, run_id=known, parent=parent or self._parent or None
        ) as started:
            patiently(lambda: self._trial.set_user_attr(RUN_ID, started))
            try:
                yield started
            except VcfbertError as error:
                self._close("FAILED" if error.code in UNLUCKY else "INTERRUPTED", error.what)
                raise
            except BaseException as error:
                self._close("INTERRUPTED", type(error).__name__)
                raise
            self._close("PRUNED" if self.pruned else "COMPLETE")

    def _close(self, state: str, why: str = "") -> None:
        self._tracker.set_tags({"trial.state": state, **({"trial.why": why[:500]} if why else {})})

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        costs = self.costs
        costs[SECONDS] += metrics.get("epoch_seconds", 0.0)
        costs[REFRESH_SECONDS] += metrics.get("refresh/seconds", 0.0)
        costs[MEMORY] = max(costs[MEMORY], metrics.get("peak_cuda_mb", metrics.get("peak_rss_mb", 0.0)))
        costs[MS_PER_BATCH] = metrics.get("ms_per_batch", costs[MS_PER_BATCH])
        self._tracker.log_metrics({**metrics, **{f"cost/{name}": value for name, value in costs.items()}}, step)
        for name, value in costs.items():
            self._keep(name, value)

    def _keep(self, name: str, value: float) -> None:
        patiently(lambda: self._trial.set_user_attr(name, round(value, 3)))

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        self._tracker.log_artifact(path, folder)

    def log_bundle(self, bundle: Path, variant: str) -> str:
        return self._tracker.log_bundle(bundle, variant)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._tracker.set_tags(tags)

    def after_epoch(self, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Whether to go on. Reports where figures can be compared: see the module's text."""
        if self._ages and metrics["index/age"] > 0:
            return True
        value = _value(metrics, self._objective)
        patiently(lambda: self._trial.report(value, epoch))
        self.pruned = patiently(self._trial.should_prune)
        return not self.pruned


def _value(metrics: Mapping[str, float], objective: str) -> float:
    if objective not in metrics:
        raise InputError(
            "objective_missing",
            f"validation gives no {objective}: no site of that frequency was scored",
            hint="choose another tune.objective, such as val/r2/all, or hold out more samples",
        )
    return float(metrics[objective])


def _frozen(trial: optuna.Trial) -> optuna.trial.FrozenTrial:
    return patiently(lambda: next(t for t in trial.study.get_trials(deepcopy=False) if t.number == trial.number))


def _forget_peak_memory() -> None:
    """Peaks are of a process, which may have run other trials before. Where the system does not forget (not Linux),
    a trial's peak is at least that of those before it."""
    trim_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
