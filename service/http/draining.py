"""Graceful shutdown: refuses new requests, finishes those in flight, then stops the server."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_TICK = 0.05  # seconds between checks of the requests in flight


class Drain:
    """Counts requests in flight and records that shutdown has begun. Used in the event loop."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.draining = False
        self.in_flight = 0

    @contextmanager
    def request(self) -> Iterator[None]:
        """Counts a request as in flight within the block."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Within the block, the first SIGTERM or SIGINT drains and then calls the previous handler.

        A second signal calls that handler at once. The server keeps listening while it drains, so a proxy sees
        that it is not ready.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # tests run the application in other threads, which receive no signals
            return
        loop = asyncio.get_running_loop()
        before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
        tasks: set[asyncio.Task[None]] = set()

        def begin(number: int, frame: FrameType | None) -> None:
            handler = before[number]
            if self.draining or not callable(handler):
                if callable(handler):
                    handler(number, frame)
                return
            self.draining = True
            loop.call_soon_threadsafe(lambda: tasks.add(loop.create_task(self._finish(lambda: handler(number, None)))))

        for number in SIGNALS:
            if callable(before[number]):
                signal.signal(number, begin)
        try:
            yield
        finally:
            for number in SIGNALS:
                if signal.getsignal(number) is begin:
                    signal.signal(number, before[number])

    async def _finish(self, stop: Callable[[], None]) -> None:
        log.info("draining")
        end = asyncio.get_running_loop().time() + self._seconds
        while self.in_flight and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(_TICK)
        stop()
