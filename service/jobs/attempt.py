"""One attempt at a job. A thread sends its heartbeat and watches for reasons to stop it."""

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
GRACE_SECONDS = 60.0  # an imputation stops between two blocks


class ClaimLostError(Exception):
    """The claim is lost: the job was cancelled, or another worker has it."""


class StoppingError(Exception):
    """The worker must stop before the job is done."""


class TooSlowError(ResourceError):
    """The job reached its time limit."""

    def __init__(self, max_seconds: float) -> None:
        what = f"the job did not finish within {max_seconds:g} seconds"
        super().__init__("too_slow", what, hint="send fewer samples or a smaller region at once")


class Attempt:
    """A context manager around one attempt. The imputation calls ``check`` between blocks.

    ``max_seconds``: time limit of the attempt. ``stale_seconds``: other workers take this one for dead after so long
    without a heartbeat. ``stopping``: set when the worker must stop. ``end_process``: ends the worker's process, if the
    imputation has not stopped ``grace_seconds`` after its time limit.
    """

    def __init__(
        self,
        table: JobTable,
        claim: Claim,
        *,
        max_seconds: float,
        stale_seconds: float,
        stopping: threading.Event,
        end_process: Callable[[], None],
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._table = table
        self._claim = claim
        self._max_seconds = max_seconds
        self._stale_seconds = stale_seconds
        self._stopping = stopping
        self._end_process = end_process
        self._grace_seconds = grace_seconds
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
        """Seconds since the attempt began."""
        return time.monotonic() - self._started

    def begin(self, total: int, qc: Mapping[str, Any] | None) -> None:
        """Sets the number of panel sites to impute and the QC summary, which the next heartbeat stores."""
        self._total, self._qc = total, qc

    def advance(self, sites: int) -> None:
        """Adds ``sites`` to the number of finished panel sites."""
        self._done += sites

    def check(self) -> None:
        """Raises ClaimLostError, TooSlowError or StoppingError if the attempt must end."""
        if self._lost.is_set():
            raise ClaimLostError
        if self.seconds > self._max_seconds:
            raise TooSlowError(self._max_seconds)
        if self._stopping.is_set():
            raise StoppingError

    def confirm(self) -> None:
        """Does ``check``, then asks the job table whether the claim still holds."""
        self.check()
        if not self._beat():
            raise ClaimLostError

    def _beat(self) -> bool:
        return self._table.heartbeat(self._claim, done=self._done, total=self._total, qc=self._qc)

    def _watch(self) -> None:
        period = min(BEAT_SECONDS, self._stale_seconds / 5)
        last_beat = time.monotonic()
        while not self._over.wait(period):
            try:
                if not self._beat():
                    self._lost.set()
                last_beat = time.monotonic()
            except VcfbertError as error:
                log.warning("job %s: no heartbeat (%s)", self._claim.job_id, error.code)
                if time.monotonic() - last_beat > self._stale_seconds:  # other workers now take this one for dead
                    self._lost.set()
            if self.seconds > self._max_seconds + self._grace_seconds:
                self._end_by_force()
                return

    def _end_by_force(self) -> None:
        log.error("job %s exceeded its time limit and does not stop: the worker ends its process", self._claim.job_id)
        try:
            error = TooSlowError(self._max_seconds)
            row = {"code": error.code, "detail": error.what, "where": None, "hint": error.hint}
            self._table.fail(self._claim, row)
        finally:
            self._end_process()
