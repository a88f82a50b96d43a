"""What a fit reports while it runs. ``cli.console.ConsoleProgress`` draws it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class FitProgress(Protocol):
    """Receives the progress of a fit, from one thread of the process of rank 0."""

    def begin(self, title: str, steps: int | None) -> None:
        """A part of the fit begins, such as an epoch. ``steps``: their number, None if it is not known."""

    def step(self, figures: str) -> None:
        """A step is done, such as a batch; ``figures`` describe the part so far."""

    def message(self, text: str) -> None:
        """One line for the user."""


class SilentProgress:
    """Discards what it receives: for ranks other than 0, and for callers without a listener."""

    def begin(self, title: str, steps: int | None) -> None:
        pass

    def step(self, figures: str) -> None:
        pass

    def message(self, text: str) -> None:
        pass


def epoch_message(epoch: int, epochs: int, metrics: Mapping[str, float], seconds: float) -> str:
    """One line on ``epoch`` (from 0) of ``epochs``."""
    shown = {"train": "train/loss", "val": "val/loss", "F1": "val/f1", "rare F1": "val/rare_f1", "r2": "val/r2/all"}
    figures = "  ".join(f"{label} {metrics[name]:.4f}" for label, name in shown.items() if name in metrics)
    return f"epoch {epoch + 1}/{epochs}  {figures}  {seconds:.0f} s"
