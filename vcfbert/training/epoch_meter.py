"""Running loss, F1 and batch times of one epoch's training on one rank."""

from __future__ import annotations

import statistics
import time
from typing import Any

from vcfbert.metrics.accuracy import F1Counter
from vcfbert.training.data import Example


class EpochMeter:
    """Accumulates loss, F1 and the time of each batch. The clock starts when the meter is created."""

    def __init__(self) -> None:
        self.f1 = F1Counter()
        self.total = 0.0
        self.durations: list[float] = []  # seconds
        self._started = self._before = time.perf_counter()

    def update(self, loss: float, probability: Any, example: Example, maf: Any) -> None:
        """Adds a batch: its ``loss``, ALT ``probability`` [b, 2, l] and the ``maf`` [l] of its window's sites."""
        self.total += loss
        self.f1.update(example.alleles.cpu().numpy(), probability, maf, example.masked.cpu().numpy())

    def tick(self) -> None:
        """Marks the end of a batch."""
        self.durations.append(time.perf_counter() - self._before)
        self._before += self.durations[-1]

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    @property
    def loss(self) -> float:
        """Mean over the batches so far."""
        return self.total / len(self.durations)

    @property
    def mean_ms(self) -> float:
        return statistics.fmean(self.durations) * 1e3

    @property
    def median_ms(self) -> float:
        return statistics.median(self.durations) * 1e3
