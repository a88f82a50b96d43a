"""What a resumed run must find as it was: progress, weights, optimiser and retrievers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch.optim import Optimizer

from vcfbert.model.base import Variant
from vcfbert.retrieval.base import Retriever
from vcfbert.training.checkpoint import State


@dataclass
class RunState:
    """Progress of a run; plain values alone, because a checkpoint stores them."""

    epoch: int = 0  # epochs finished
    step: int = 0  # optimiser steps taken
    best_loss: float = math.inf
    best_metrics: dict[str, float] = field(default_factory=dict)
    waited: int = 0  # epochs since the best one
    refreshed: int = 0  # epoch of the last refresh
    version: int = 0  # of the index
    seconds: float = 0.0  # spent so far, all sessions
    run_id: str = ""

    def take(self, metrics: dict[str, float]) -> bool:
        """Notes an epoch's figures; True if it is the best so far."""
        # The loss of genotypes in inferred phase decides where there is one: the panel's own phase has fewer errors.
        loss = metrics.get("val/genotype_loss", metrics["val/loss"])
        if loss < self.best_loss:
            self.best_loss, self.best_metrics, self.waited = loss, metrics, 0
            return True
        # Figures that the best epoch lacks, such as the time of a batch before training, are the latest epoch's.
        self.best_metrics = metrics | self.best_metrics
        self.waited += 1
        return False


def snapshot(model: Variant, optimizer: Optimizer, retrievers: Sequence[Retriever], run: RunState) -> State:
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "retrievers": [state for retriever in retrievers if (state := retriever.snapshot())],
        "run": dict(vars(run)),
    }


def restore(state: State, model: Variant, optimizer: Optimizer, retrievers: Sequence[Retriever]) -> RunState:
    """Puts ``state``, from ``snapshot``, back into the other arguments, and returns the progress."""
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    learned = [retriever for retriever in retrievers if retriever.snapshot()]
    for retriever, saved in zip(learned, state["retrievers"], strict=True):
        retriever.restore(saved)
    return RunState(**state["run"])
