"""Where a run's figures go. The library writes to this protocol; ``tracking.mlflow_tracker`` records in MLflow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from vcfbert.errors import InputError

_METRIC_NAME = re.compile(r"[A-Za-z0-9_\-.:/ ]{1,250}")


class Tracker(Protocol):
    """Where a run's figures go. Used by one thread; everything but ``start`` needs a started run."""

    def start(
        self,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        *,
        run_id: str | None = None,
        parent: str | None = None,
    ) -> AbstractContextManager[str]:
        """A run for the length of the ``with`` block, which gets its id ('' where nothing is recorded).

        ``params`` may be nested: ``{"train": {"lr": 1}}`` becomes ``train.lr``. ``run_id`` continues that run,
        after its process was killed; a new run becomes a child of ``parent``, such as a study's. An exception in the
        block marks the run FAILED and goes on.
        """
        ...

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """One epoch's (or refresh's) figures. A NaN or infinite one is left out and named in the run's tag
        ``warning.non_finite``: MLflow would plot it as a number. Raises InputError on a name it cannot take."""
        ...

    def log_artifact(self, path: Path, folder: str | None = None) -> None: ...

    def log_bundle(self, bundle: Path, variant: str) -> str:
        """Records the bundle's folder as a model of this run; returns the model's URI."""
        ...

    def set_tags(self, tags: Mapping[str, str]) -> None: ...


class NullTracker:
    """Records nothing: where tracking is off."""

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
    for name in names:
        if not _METRIC_NAME.fullmatch(name):
            raise InputError(
                "metric_name", f"{name!r} cannot be a metric's name", hint="letters, digits, _ - . : / and space only"
            )
