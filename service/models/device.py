"""The device of one process, shared by all models that it serves."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from .fifo_semaphore import FifoSemaphore


class Device:
    """Held by one imputation at a time, in order of arrival: two at once would be slower and use more host memory.

    The ``device_guard`` of every served ``Imputer``, and entered by nothing else. Thread-safe, not re-entrant.
    """

    def __init__(self) -> None:
        self._semaphore = FifoSemaphore()
        self._entered = 0.0  # written by the holder alone
        self._totals = threading.local()

    @property
    def held_seconds(self) -> float:
        """Total seconds for which the calling thread has held the device."""
        return float(getattr(self._totals, "seconds", 0.0))

    def __enter__(self) -> None:
        self._semaphore.__enter__()
        self._entered = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._totals.seconds = self.held_seconds + time.perf_counter() - self._entered
        self._semaphore.__exit__(kind, error, trace)
