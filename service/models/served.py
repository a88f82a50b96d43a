"""A model in use by requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from vcfbert.errors import ResourceError

from .device import Device
from .fifo_semaphore import FifoSemaphore
from .model import ImputeHooks, Model
from .version import ModelVersion, version_name

if TYPE_CHECKING:
    from vcfbert.imputation.files import Imputed, ImputeOptions
    from vcfbert.imputation.imputer import Imputer


@dataclass(frozen=True)
class Served:
    """A model in use. A request keeps its model even if a newer version replaces it meanwhile."""

    alias: str
    reference: str  # as the settings name it
    version: ModelVersion
    model: Model
    device: Device
    places: FifoSemaphore  # bounds the files that are read, predicted or written at once
    observe: Callable[[Served, int, float], None]  # receives the samples and device seconds of each imputation
    stopped: threading.Event  # set when the process ends; running imputations then end after their current block

    @property
    def version_name(self) -> str:
        return version_name(self.version)

    @property
    def digest(self) -> str:
        return self.version.bundle_digest

    @property
    def info(self) -> Mapping[str, Any]:
        """Model information for clients."""
        return {
            "alias": self.alias,
            "reference": self.reference,
            "version": self.version_name,
            "digest": self.digest,
            **self.model.info,
        }

    @property
    def imputer(self) -> Imputer:
        """For matching, dry runs and imputation of targets in memory."""
        return self.model.imputer

    def impute(self, target: Path, output: Path, options: ImputeOptions, **hooks: Unpack[ImputeHooks]) -> Imputed:
        """Imputes a file, in order of arrival. Raises the errors of ``impute_file``, and ResourceError 'stopping'."""
        cancelled = hooks.get("cancelled")

        def check() -> None:
            if self.stopped.is_set():
                raise ResourceError("stopping", "the service was stopped", hint="send it again in a moment")
            if cancelled is not None:
                cancelled()

        hooks["cancelled"] = check
        with self.places:
            check()
            since = self.device.held_seconds
            imputed = self.model.impute(target, output, options, **hooks)
        self.count(imputed.report.n_samples, since)
        return imputed

    def count(self, n_samples: int, since: float) -> None:
        """Counts one imputation by the calling thread, whose ``device.held_seconds`` were ``since`` before it."""
        self.observe(self, n_samples, self.device.held_seconds - since)
