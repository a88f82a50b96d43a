"""Writes what a training run leaves behind: its tracked run, the metrics CSV and its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vcfbert.tracker import Tracker
from vcfbert.training.checkpoint import Checkpoints, State
from vcfbert.training.metrics_csv import MetricsCsv


class Recorder:
    """Records a run for rank 0. For the other ranks (``writes`` False) every method does nothing."""

    def __init__(self, tracker: Tracker, checkpoints: Checkpoints, metrics_csv: Path, *, writes: bool) -> None:
        self._tracker = tracker
        self._checkpoints = checkpoints
        self._csv_path = metrics_csv
        self._writes = writes
        self._table: MetricsCsv | None = None

    @contextmanager
    def recording(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, str], *, run_id: str, resume: bool
    ) -> Iterator[str]:
        """Opens the tracked run ``name``, or continues ``run_id`` if it is not empty, and yields the run's id.

        The id is '' if nothing is written. ``resume`` keeps the rows of an existing metrics CSV.
        """
        if not self._writes:
            yield ""
            return
        with self._tracker.start(name, params, tags, run_id=run_id or None) as started:
            self._table = MetricsCsv(self._csv_path, resume=resume)
            yield started

    def epoch(self, epoch: int, metrics: Mapping[str, float], state: State) -> None:
        """Logs an epoch's figures and saves ``state`` to resume from."""
        if self._table is not None:
            self._tracker.log_metrics(metrics, epoch)
            self._table.append(epoch, metrics)
            self._checkpoints.save_last(state)

    def best(self, weights: State) -> None:
        """Saves the weights of the best epoch so far."""
        if self._writes:
            self._checkpoints.save_best(weights)

    def finish(self, bundle: Path | None, variant: str) -> str:
        """Logs the bundle and the metrics CSV and removes the checkpoints. Returns the bundle's URI, '' without one."""
        if not self._writes:
            return ""
        uri = "" if bundle is None else self._tracker.log_bundle(bundle, variant)
        self._tracker.log_artifact(self._csv_path)
        self._checkpoints.clear()
        return uri
