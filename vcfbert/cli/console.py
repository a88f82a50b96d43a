"""What the command line writes: results to standard output, messages and progress to standard error.

The library reports progress through callbacks and draws nothing. This module draws it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, TaskID

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text.")]

_PART_LINES: Final = 4  # progress lines of an epoch where standard error is not a terminal


def open_missing_streams() -> None:
    """Opens the null device for each standard stream that the caller closed.

    Python gives such a stream as None. The next file opened would get its number, and a C library that writes to
    standard output or error would write into that file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - open until the process ends


@cache
def results() -> Console:
    """Standard output for tables; lines of text go through ``say``."""
    from rich.console import Console  # on first use: importing it takes as long as imputing a sample

    return Console()


@cache
def messages() -> Console:
    """Standard error, for messages and progress."""
    from rich.console import Console

    return Console(stderr=True)


def say(text: str) -> None:
    """Writes a line to standard output. rich would wrap it and read [brackets] in a path as markup."""
    sys.stdout.write(f"{text}\n")


def tell(text: str, console: Console | None = None) -> None:
    """Writes a message to standard error, above any progress bar."""
    (console or messages()).print(text, markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Writes the value to standard output as JSON."""
    say(json.dumps(value, indent=1))


def print_facts(facts: Mapping[str, Any]) -> None:
    """One line per key. A nested mapping is written on its key's line."""
    width = max(map(len, facts), default=0)
    for key, value in facts.items():
        nested = isinstance(value, Mapping)
        text = ", ".join(f"{name} {_short(item)}" for name, item in value.items()) if nested else str(value)
        say(f"{key:<{width}}  {text}")


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Aligned columns with a header line: every key of any row, in order of appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, *(["" if row.get(name) is None else _short(row[name]) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        say("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def _short(value: Any) -> str:
    return format(value, ".4g") if isinstance(value, float) else str(value)


class Bar:
    """One line of ``progress``. Without a terminal, and so without progress, it writes ``lines`` plain lines to
    ``console``, which may be 0."""

    def __init__(
        self, progress: Progress | None, console: Console | None, title: str, unit: str, *, lines: int
    ) -> None:
        self._progress, self._console = progress, console
        self._task = None if progress is None else progress.add_task(title, total=None)
        self._title, self._unit, self._lines = title, unit, lines
        self._done, self._total = 0, 0

    def begin(self, total: int) -> None:
        """Sets the total amount of work."""
        self.show(self._done, total)

    def advance(self, more: int) -> None:
        """Adds ``more`` to the finished work."""
        self.show(self._done + more, self._total)

    def show(self, done: int, total: int | None = None) -> None:
        """Sets the finished work and the total, where it is known."""
        before, self._done, self._total = self._done, done, total or self._total
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=self._total or None)
        elif self._total and done * self._lines // self._total > before * self._lines // self._total:
            tell(f"{self._title}  {done}/{self._total} {self._unit}", self._console)


@contextmanager
def progress_bars(unit: str, *, lines: int = 0, console: Console | None = None) -> Iterator[Callable[[str], Bar]]:
    """Yields a function that adds a bar under a title. Bars are drawn on terminals alone.

    ``unit``: what is counted; 'bytes' adds the speed, and '%' writes a percentage in place of the count. ``lines``:
    plain lines that a bar writes where standard error is not a terminal, as in the log of a batch job.
    """
    if not _is_terminal(console):
        yield lambda title: Bar(None, console, title, unit, lines=lines)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    shown = console or messages()
    columns = (TextColumn("{task.description}"), BarColumn(), *_amount(unit))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=shown) as progress:
        yield lambda title: Bar(progress, shown, title, unit, lines=lines)


def _is_terminal(console: Console | None) -> bool:
    """Whether ``console``, or standard error, is a terminal. Without one rich is not imported."""
    if console is None and not sys.stderr.isatty():
        return False
    return (console or messages()).is_terminal


def _amount(unit: str) -> Sequence[ProgressColumn]:
    from rich.progress import DownloadColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TransferSpeedColumn

    if unit == "bytes":
        return DownloadColumn(), TransferSpeedColumn()
    return (TaskProgressColumn(),) if unit == "%" else (MofNCompleteColumn(), TextColumn(unit))


class ConsoleProgress:
    """Draws a fit: one bar per epoch or search with its figures on a terminal, elsewhere lines, four per epoch.

    Implements ``training.progress.FitProgress``.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = console or messages()
        self._title = ""
        self._steps: int | None = 0
        self._done = 0
        self._task: TaskID | None = None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, title: str, steps: int | None) -> None:
        self._title = title
        self._steps = steps
        self._done = 0
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(title, total=steps, figures="")

    def step(self, figures: str) -> None:
        self._done += 1
        if self._console.is_terminal:
            assert self._task is not None
            self._bar.update(self._task, advance=1, figures=figures)
        elif self._steps is None:
            self._console.print(f"{self._title}  {self._done}  {figures}", highlight=False)
        elif self._done * _PART_LINES // self._steps > (self._done - 1) * _PART_LINES // self._steps:
            self._console.print(f"{self._title}  {self._done}/{self._steps}  {figures}", highlight=False)

    def message(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
