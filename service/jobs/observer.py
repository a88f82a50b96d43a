"""Receivers of what a worker measures, in the same process or another one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol


class Observer(Protocol):
    """Receives every finished job and every search. Called by one thread."""

    def job(self, model: str, n_targets: int, seconds: float) -> None:
        """A job of ``n_targets`` samples for the model ``model``, by its alias, took ``seconds``."""

    def retrieval(self, variant: str, seconds: float) -> None:
        """A search of a window's reference subset took ``seconds``."""


class SentMetrics:
    """Writes each measurement as a line to a pipe. ``receive`` reads them in the process at the other end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def job(self, model: str, n_targets: int, seconds: float) -> None:
        self._send("job", model, n_targets, seconds)

    def retrieval(self, variant: str, seconds: float) -> None:
        self._send("retrieval", variant, seconds)

    def _send(self, *values: str | float) -> None:
        with suppress(BrokenPipeError):  # the job finishes even if the reader has ended
            os.write(self._descriptor, json.dumps(values).encode() + b"\n")


def receive(lines: Iterable[str], observer: Observer) -> None:
    """Passes the ``lines`` of a ``SentMetrics`` to ``observer``, until the end or a truncated line."""
    for line in lines:
        if not line.endswith("\n"):
            return
        name, *values = json.loads(line)
        record = observer.job if name == "job" else observer.retrieval
        record(*values)
