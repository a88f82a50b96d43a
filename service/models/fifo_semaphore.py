"""A FIFO semaphore."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class FifoSemaphore:
    """Admits up to ``places`` holders in order of arrival. ``threading.Lock`` can starve a waiter under load."""

    def __init__(self, places: int = 1) -> None:
        self._guard = threading.Lock()
        self._free = places
        self._waiting: deque[threading.Event] = deque()

    def __enter__(self) -> None:
        with self._guard:
            if self._free:
                self._free -= 1
                return
            admitted = threading.Event()
            self._waiting.append(admitted)
        admitted.wait()  # the leaving holder passes its place on, so no later caller can take it

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1
