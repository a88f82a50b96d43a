"""What a fit reports while it runs. ``cli.console.ConsoleProgress`` draws it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class FitProgress(Protocol):
    """Receives the progress of a fit, from one thread of the process of rank 0."""

    def epoch(self, epoch: int, epochs: int, steps: int) -> None:
        """``epoch`` (from 0) of ``epochs`` begins; it has ``steps`` batches."""

    def step(self, loss: float, f1: float, ms_per_batch: float) -> None:
        """A batch is done. The figures are means over the epoch so far."""

    def message(self, text: str) -> None:
        """One line for the user."""


class SilentProgress:
    """Discards what it receives: for ranks other than 0, and for callers without a listener."""

    def epoch(self, epoch: int, epochs: int, steps: int) -> None:
        pass

    def step(self, loss: float, f1: float, ms_per_batch: float) -> None:
        pass

    def message(self, text: str) -> None:
        pass


def start_message(found: Mapping[str, float]) -> str:
    """One line on the starting point that a recipe found: ``found`` by names that begin with 'start/'."""
    shown = ", ".join(f"{name.removeprefix('start/')} {value:.3g}" for name, value in found.items())
    return f"start: {shown}"


def epoch_message(epoch: int, epochs: int, metrics: Mapping[str, float], seconds: float) -> str:
    """One line on ``epoch`` (from 0) of ``epochs``."""
    shown = {"train": "train/loss", "val": "val/loss", "F1": "val/f1", "rare F1": "val/rare_f1", "r2": "val/r2/all"}
    figures = "  ".join(f"{label} {metrics[name]:.4f}" for label, name in shown.items() if name in metrics)
    return f"epoch {epoch + 1}/{epochs}  {figures}  {seconds:.0f} s"
