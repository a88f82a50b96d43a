"""The state that a resumed run continues from: progress, weights, optimiser and retrievers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch.optim import Optimizer

from vcfbert.model.base import Variant
from vcfbert.retrieval.base import Retriever
from vcfbert.retrieval.refresh import RefreshReport
from vcfbert.training.checkpoint import State


@dataclass
class RunState:
    """Progress of a run. Plain values only, because a checkpoint stores them without pickle."""

    epoch: int = 0  # epochs finished
    step: int = 0  # optimiser steps taken
    best_loss: float = math.inf
    best_metrics: dict[str, float] = field(default_factory=dict)
    waited: int = 0  # epochs since the best one
    refreshed: int = 0  # epoch of the last refresh
    version: int = 0  # of the index
    seconds: float = 0.0  # spent training so far, before interruptions too
    run_id: str = ""

    def take(self, metrics: dict[str, float]) -> bool:
        """Notes an epoch's figures. Returns True if it is the best epoch so far."""
        if metrics["val/loss"] < self.best_loss:
            self.best_loss, self.best_metrics, self.waited = metrics["val/loss"], metrics, 0
            return True
        self.waited += 1
        return False

    def index_metrics(self, epoch: int, report: RefreshReport | None) -> dict[str, float]:
        """Notes the refresh before ``epoch``, if there was one, and returns the index's figures to log."""
        metrics: dict[str, float] = {}
        if report is not None:
            self.version, self.refreshed = report.version, epoch
            metrics = {
                "refresh/seconds": report.seconds,
                "refresh/drift": report.drift,
                "refresh/overlap": report.overlap,
            }
        return {"index/version": self.version, "index/age": epoch - self.refreshed, **metrics}


def snapshot(model: Variant, optimizer: Optimizer, retrievers: Sequence[Retriever], run: RunState) -> State:
    """A checkpoint's content. Fixed retrievers have no state, so only learned ones are in it."""
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "retrievers": [retriever.snapshot() for retriever in retrievers if retriever.is_learned],
        "run": dict(vars(run)),
    }


def restore(state: State, model: Variant, optimizer: Optimizer, retrievers: Sequence[Retriever]) -> RunState:
    """Loads ``state``, made by ``snapshot``, into model, optimiser and retrievers, and returns the progress."""
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    learned = [retriever for retriever in retrievers if retriever.is_learned]
    for retriever, saved in zip(learned, state["retrievers"], strict=True):
        retriever.restore(saved)
    return RunState(**state["run"])
