"""One attempt at a job, watched by a thread of its own: the heartbeat, and the reasons to stop in the middle."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from vcfbert.errors import ResourceError, VcfbertError

from .job import Claim
from .store import JobTable

log = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
# An imputation that is asked to stop does so between two blocks. One that has not done so for this long after its time
# was up is ended with its process.
GRACE_SECONDS = 60.0


class ClaimLostError(Exception):
    """The job is not this attempt's any more: it was cancelled, or given to another worker."""


class StoppingError(Exception):
    """The worker has to end before the job does."""


class TooSlowError(ResourceError):
    """The job has had the time that it may have."""

    def __init__(self, max_seconds: float) -> None:
        what = f"the job did not finish within {max_seconds:g} seconds"
        super().__init__("too_slow", what, hint="send fewer samples or a smaller region at once")


class Attempt:
    """Used as a context; ``check`` is called by the imputation between its blocks."""

    def __init__(
        self,
        table: JobTable,
        claim: Claim,
        *,
        max_seconds: float,
        stale_seconds: float,
        stopping: threading.Event,
        end_process: Callable[[], None],
    ) -> None:
        self._table = table
        self._claim = claim
        self._max_seconds = max_seconds
        self._stale_seconds = stale_seconds
        self._stopping = stopping
        self._end_process = end_process
        self._started = time.monotonic()
        self._done = 0
        self._total = 0
        self._qc: Mapping[str, Any] | None = None
        self._lost = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)

    def __enter__(self) -> Attempt:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def begin(self, total: int, qc: Mapping[str, Any] | None) -> None:
        self._total, self._qc = total, qc

    def advance(self, sites: int) -> None:
        self._done += sites

    def check(self) -> None:
        """Raises ClaimLostError, TooSlowError or StoppingError where the attempt is to end."""
        if self._lost.is_set():
            raise ClaimLostError
        if self.seconds > self._max_seconds:
            raise TooSlowError(self._max_seconds)
        if self._stopping.is_set():
            raise StoppingError

    def confirm(self) -> None:
        """``check``, and asks the table itself whether the claim holds."""
        self.check()
        if not self._beat():
            raise ClaimLostError

    def _beat(self) -> bool:
        return self._table.heartbeat(self._claim, done=self._done, total=self._total, qc=self._qc)

    def _watch(self) -> None:
        period = min(BEAT_SECONDS, self._stale_seconds / 5)
        told = time.monotonic()
        while not self._over.wait(period):
            try:
                if not self._beat():
                    self._lost.set()
                told = time.monotonic()
            except VcfbertError as error:
                log.warning("job %s: no heartbeat (%s)", self._claim.job_id, error.code)
                if time.monotonic() - told > self._stale_seconds:  # by now others take this worker for dead
                    self._lost.set()
            if self.seconds > self._max_seconds + GRACE_SECONDS:
                self._end_by_force()
                return

    def _end_by_force(self) -> None:
        log.error("job %s is too slow and does not stop: the worker ends itself", self._claim.job_id)
        try:
            error = TooSlowError(self._max_seconds)
            row = {"code": error.code, "detail": error.what, "where": None, "hint": error.hint}
            self._table.fail(self._claim, row)
        finally:
            self._end_process()
