"""Who is told what a worker measures, also where that is another process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol


class Observer(Protocol):
    """Is told of every job that is done and of every search. Called by one thread."""

    def job(self, model: str, n_targets: int, seconds: float) -> None: ...

    def retrieval(self, variant: str, seconds: float) -> None: ...


class SentMetrics:
    """Writes what it is told to a pipe, a line each, for ``receive`` in the process at its other end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def job(self, model: str, n_targets: int, seconds: float) -> None:
        self._send("job", model, n_targets, seconds)

    def retrieval(self, variant: str, seconds: float) -> None:
        self._send("retrieval", variant, seconds)

    def _send(self, *told: str | float) -> None:
        with suppress(BrokenPipeError):  # nobody listens any more: no reason not to finish the job
            os.write(self._descriptor, json.dumps(told).encode() + b"\n")


def receive(lines: Iterable[str], observer: Observer) -> None:
    """Tells ``observer`` what the ``lines`` of a ``SentMetrics`` say, up to the end or a line that is cut off."""
    for line in lines:
        if not line.endswith("\n"):
            return
        name, *values = json.loads(line)
        tell = observer.job if name == "job" else observer.retrieval
        tell(*values)
