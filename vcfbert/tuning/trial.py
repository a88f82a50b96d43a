"""A trial: one training with suggested parameters, without a bundle, as a child run in MLflow.

**Pruning at equal index age.** V18 retrieves by embeddings that become outdated between refreshes, and its validation
figures fall and rise with their age. A trial with rare refreshes would be compared just before a refresh, and pruned
for an age that passes. The pruner therefore gets figures only from epochs that begin with a new index (age 0), by the
epoch's number. Two trials are then compared after equal training and a refresh, whatever their ``refresh_every``.
Without refreshes, only epoch 0 has a new index; the pruner ignores that epoch, so such a trial is never pruned. V17 and
V19 have no learned index and report every epoch.
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
from vcfbert.training.fit import fitter_of
from vcfbert.training.host_memory import trim_memory
from vcfbert.training.progress import FitProgress
from vcfbert.training.result import FitOutput
from vcfbert.tuning.space import learns_retrieval, suggest, trial_config
from vcfbert.tuning.storage import RUN_ID, first_number, patiently

# Costs of a trial over all its attempts: user attributes in the study, metrics in MLflow.
SECONDS, REFRESH_SECONDS = "seconds", "refresh_seconds"
MEMORY, MS_PER_BATCH = "memory_mb", "ms_per_batch"
COSTS = (SECONDS, REFRESH_SECONDS, MEMORY, MS_PER_BATCH)
WORKER = "worker"  # user attribute: host and process of the latest attempt
TRIAL_ERRORS = ("diverged", "out_of_memory")  # codes of errors that end a trial and not the study


class TrialFailed(Exception):
    """The parameters of this trial do not work. The study continues."""


class TakenOver(Exception):
    """Another worker has the trial, because this one missed its heartbeats."""


class Objective:
    """Trains with the suggested parameters. Its value is ``config.tune.objective`` of the best epoch."""

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
        """``folder``: for the trials' checkpoints. ``parent``: the study's run in MLflow."""
        self._panels, self._encodings, self._config, self._variant = panels, encodings, config, variant
        self._folder, self._parent, self._open_tracker, self._progress = folder, parent, open_tracker, progress

    def __call__(self, trial: optuna.Trial) -> float:
        tune = self._config.tune
        values = suggest(trial, self._variant, tune)
        config = trial_config(self._config, values)
        # Named by the first attempt: two trials may have the same parameters and would share a checkpoint.
        folder = self._folder / str(first_number(_frozen(trial)))
        shown = "  ".join(f"{path} {value}" for path, value in values.items())
        self._progress.message(f"trial {trial.number}  {shown}")
        patiently(lambda: trial.set_user_attr(WORKER, f"{socket.gethostname()}:{os.getpid()}"))
        record = TrialRecord(trial, self._open_tracker(), tune.objective, self._variant, self._parent)
        _reset_peak_memory()
        try:
            fitter = fitter_of(self._variant, self._panels, lambda: self._encodings, config, progress=self._progress)
            output = FitOutput(
                None,
                record,
                checkpoints=folder,
                metrics_csv=folder / "metrics.csv",
                tags={"source": "tune", "study": trial.study.study_name},
                data={"panel": panels_digest(self._panels)},
            )
            result = fitter.fit(output, after_epoch=record.after_epoch)
        except VcfbertError as error:
            if error.code not in TRIAL_ERRORS:
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
    """The trainer's tracker for a trial. It records the run in MLflow, the costs, and the reports to the pruner."""

    def __init__(self, trial: optuna.Trial, tracker: Tracker, objective: str, variant: str, parent: str) -> None:
        self._trial, self._tracker, self._objective, self._parent = trial, tracker, objective, parent
        self._has_index_age = learns_retrieval(variant)
        self.pruned = False
        kept = patiently(lambda: trial.user_attrs)  # from earlier attempts
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
        """Starts the trial's run. The run of an earlier attempt is continued, with or without a checkpoint."""
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
                self._close("FAILED" if error.code in TRIAL_ERRORS else "INTERRUPTED", error.what)
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
        """Reports the epoch to the pruner if its index is new. Returns whether training continues."""
        if self._has_index_age and metrics["index/age"] > 0:
            return True
        value = _value(metrics, self._objective)
        patiently(lambda: self._trial.report(value, epoch))
        self.pruned = patiently(self._trial.should_prune)
        return not self.pruned


def _value(metrics: Mapping[str, float], objective: str) -> float:
    if objective not in metrics:
        raise InputError(
            "objective_missing",
            f"validation has no {objective}: no site of that frequency was scored",
            hint="choose another tune.objective, such as val/r2/all, or hold out more samples",
        )
    return float(metrics[objective])


def _frozen(trial: optuna.Trial) -> optuna.trial.FrozenTrial:
    return patiently(lambda: next(t for t in trial.study.get_trials(deepcopy=False) if t.number == trial.number))


def _reset_peak_memory() -> None:
    """Resets the process's peak memory, which may come from an earlier trial.

    Only Linux can reset it. Elsewhere a trial's peak is at least that of the trials before it.
    """
    trim_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
