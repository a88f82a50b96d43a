"""Worker threads of their own for routes that wait for the job table: if it hangs, they take no threads from others."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Final

import anyio
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync
from fastapi.routing import APIRoute

from vcfbert.errors import ResourceError

JOB_THREADS: Final = 16
METRICS_THREADS: Final = 2
_WAIT_SECONDS: Final = 5.0  # for a thread


class Bulkhead:
    """At most ``threads`` calls at once, in each event loop. ``what`` names them in the error."""

    def __init__(self, what: str, threads: int) -> None:
        self._what = what
        self._threads = threads
        self._places: RunVar[asyncio.Semaphore] = RunVar(f"places of {what}")
        self._limiter: RunVar[anyio.CapacityLimiter] = RunVar(f"threads of {what}")

    async def run(self, call: Callable[[], Any]) -> Any:
        """What ``call`` returns in a thread. Raises ResourceError 'busy' if no thread becomes free in time."""
        places = _of_loop(self._places, lambda: asyncio.Semaphore(self._threads))
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await places.acquire()
        except TimeoutError:
            what = f"all threads for {self._what} are busy"
            raise ResourceError("busy", what, hint="try again; /readyz says what does not answer") from None
        try:
            return await run_sync(call, limiter=_of_loop(self._limiter, lambda: anyio.CapacityLimiter(math.inf)))
        finally:
            places.release()


def _of_loop(variable: RunVar[Any], make: Callable[[], Any]) -> Any:
    found = variable.get(None)
    if found is None:
        variable.set(found := make())
    return found


def _own_threads(bulkhead: Bulkhead) -> type[APIRoute]:
    """A class of routes whose functions run in the threads of ``bulkhead``."""

    class Route(APIRoute):
        def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
            @wraps(endpoint)
            async def in_thread(**values: Any) -> Any:
                return await bulkhead.run(partial(endpoint, **values))

            super().__init__(path, in_thread, **more)

    return Route


JobRoute = _own_threads(Bulkhead("jobs", JOB_THREADS))
MetricsRoute = _own_threads(Bulkhead("metrics", METRICS_THREADS))
