"""What a fit writes and returns, whichever variant it fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vcfbert.errors import InputError
from vcfbert.tracker import Tracker

# Called after each epoch's checkpoint with the epoch (from 0) and its figures. False ends the training there, as if the
# epoch were the last. Every rank calls it, and all must get the same answer.
AfterEpoch = Callable[[int, Mapping[str, float]], bool]


@dataclass(frozen=True)
class FitOutput:
    """Where a fit writes, and what it records beside its figures."""

    bundle: Path | None  # None: no bundle is written
    tracker: Tracker
    checkpoints: Path  # folder; an interrupted fit continues from it
    metrics_csv: Path
    tags: Mapping[str, str]  # of the run
    data: Mapping[str, str]  # names and digests of the inputs, for run and bundle

    def run_tags(self, variant: str) -> dict[str, str]:
        """All tags of the run: variant, digests of the inputs, and ``tags``."""
        return {"variant": variant, **{f"data.{key}": value for key, value in self.data.items()}, **self.tags}


@dataclass(frozen=True)
class FitResult:
    """The result of a fit. ``run_id`` and ``model_uri`` are '' where no run or no bundle is recorded."""

    run_id: str
    model_uri: str
    metrics: dict[str, float]  # of the best epoch
    seconds: float  # spent training, before interruptions too
    parameters: int
    data_digest: str  # of the panels that the figures were measured on
    rank: int = 0  # of the process, of those that trained together; the first one reports


def panel_too_small(n_haplotypes: int) -> InputError:
    """The error of a panel whose training samples have too few haplotypes for each to copy another sample's."""
    return InputError(
        "panel_too_small",
        f"the training samples of a panel have {n_haplotypes} haplotypes: too few to copy from other samples",
        hint="give a panel with more samples, or hold out fewer with --holdout",
    )


class Fitter(Protocol):
    """Fits one variant."""

    def fit(self, output: FitOutput, *, after_epoch: AfterEpoch | None = None) -> FitResult:
        """Fits, or continues an interrupted fit, and writes ``output``. Raises VcfbertError."""
