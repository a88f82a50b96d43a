"""Progress of a fit: a bar with figures on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class FitProgress(Protocol):
    """Told what happens; says it in its own way."""

    def epoch(self, epoch: int, epochs: int, steps: int) -> None: ...

    def step(self, loss: float, f1: float, ms_per_batch: float) -> None: ...

    def message(self, text: str) -> None: ...


class SilentProgress:
    """For ranks other than 0, and for tests."""

    def epoch(self, epoch: int, epochs: int, steps: int) -> None:
        pass

    def step(self, loss: float, f1: float, ms_per_batch: float) -> None:
        pass

    def message(self, text: str) -> None:
        pass


class ConsoleProgress:
    """A rich bar on a terminal; elsewhere a line each quarter of an epoch."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._title = ""
        self._steps = 0
        self._done = 0
        self._task: TaskID | None = None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def epoch(self, epoch: int, epochs: int, steps: int) -> None:
        self._title = f"epoch {epoch + 1}/{epochs}"
        self._steps = steps
        self._done = 0
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(self._title, total=steps, figures="")

    def step(self, loss: float, f1: float, ms_per_batch: float) -> None:
        self._done += 1
        figures = f"loss {loss:.4f}  F1 {f1:.3f}  {ms_per_batch:.0f} ms/batch"
        if self.console.is_terminal:
            assert self._task is not None
            self._bar.update(self._task, advance=1, figures=figures)
        elif self._done * 4 // self._steps > (self._done - 1) * 4 // self._steps:
            self.console.print(f"{self._title}  {self._done}/{self._steps}  {figures}", highlight=False)

    def message(self, text: str) -> None:
        self.console.print(text, highlight=False)


def epoch_message(epoch: int, epochs: int, metrics: Mapping[str, float], seconds: float) -> str:
    """One line on ``epoch`` (from 0) of ``epochs``."""
    shown = {"train": "train/loss", "val": "val/loss", "F1": "val/f1", "rare F1": "val/rare_f1", "r2": "val/r2/all"}
    figures = "  ".join(f"{label} {metrics[name]:.4f}" for label, name in shown.items() if name in metrics)
    return f"epoch {epoch + 1}/{epochs}  {figures}  {seconds:.0f} s"
