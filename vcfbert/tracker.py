"""The protocol through which the library records runs. ``tracking.mlflow_tracker`` implements it with MLflow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from vcfbert.errors import InputError

_METRIC_NAME = re.compile(r"[A-Za-z0-9_\-.:/ ]{1,250}")


class Tracker(Protocol):
    """Records a run. One thread uses it. All methods but ``start`` require a started run."""

    def start(
        self,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        *,
        run_id: str | None = None,
        parent: str | None = None,
    ) -> AbstractContextManager[str]:
        """A run that lasts as long as the ``with`` block. The block gets its id, or '' where nothing is recorded.

        ``params`` may be nested: ``{"train": {"lr": 1}}`` becomes ``train.lr``. ``run_id``: continues that run, whose
        process was killed. ``parent``: makes a new run its child, such as a trial of a study. An exception in the block
        marks the run FAILED and is raised again.
        """
        ...

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Records the metrics of one epoch or refresh.

        A NaN or infinite value is excluded and named in the run's tag ``warning.non_finite``, because MLflow would plot
        it as a number. Raises InputError 'metric_name'.
        """
        ...

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Records a copy of a file, in ``folder`` of the run's artifacts."""
        ...

    def log_bundle(self, bundle: Path, variant: str) -> str:
        """Records the bundle's folder as a model of this run; returns the model's URI."""
        ...

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Sets tags of the run. A tag of the same name is replaced."""
        ...


class NullTracker:
    """Records nothing. Used where tracking is off."""

    def start(
        self,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        *,
        run_id: str | None = None,
        parent: str | None = None,
    ) -> AbstractContextManager[str]:
        return nullcontext("")

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        check_metric_names(metrics)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        pass

    def log_bundle(self, bundle: Path, variant: str) -> str:
        return ""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        pass


def check_metric_names(names: Mapping[str, float]) -> None:
    """Raises InputError 'metric_name' for a name that MLflow refuses."""
    for name in names:
        if not _METRIC_NAME.fullmatch(name):
            raise InputError(
                "metric_name", f"{name!r} is not a valid metric name", hint="use letters, digits, _ - . : / and spaces"
            )
