"""The embedded worker process: it starts with the service, restarts when it dies, and ends with the service."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from ..settings import Settings

log = logging.getLogger(__name__)

EMBEDDED = "--embedded"
# The package is `service` in a checkout and `vcfbert_service` in a wheel.
WORKER = f"{__name__.partition('.')[0]}.worker"
FIRST_DELAY, MAX_DELAY = 0.5, 60.0  # seconds before a worker that died is restarted
_MAX_FAILURES = 3  # in a row, after which the service is not ready
_STEADY_SECONDS = 60.0  # after a worker ran this long, the delay is reset
MARGIN_SECONDS = 10.0  # allowed for ending, after draining


class WorkerSupervisor:
    """Keeps one `python -m service.worker --embedded` alive.

    The worker receives its settings through a pipe that stays open. When this process ends, even if killed, the pipe
    closes and the worker ends too. The worker has its own session, so Ctrl-C does not reach it and it can drain. It
    writes lines to a second pipe; a thread passes them to ``receive``.

    ``first_delay``: seconds before the first restart; they double with each further one, up to MAX_DELAY.
    ``margin_seconds``: what a stopped worker may take beyond its drain time before it is killed.
    """

    def __init__(
        self,
        settings: Settings,
        receive: Callable[[Iterable[str]], object],
        command: Sequence[str] = (sys.executable, "-m", WORKER),
        *,
        first_delay: float = FIRST_DELAY,
        margin_seconds: float = MARGIN_SECONDS,
    ) -> None:
        self._settings = settings
        self._receive = receive
        self._command = [*command, EMBEDDED]
        self._first_delay = first_delay
        self._margin_seconds = margin_seconds
        self._stopped = threading.Event()
        self._starting = threading.Lock()
        self._failures = 0
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._keep_alive, name="worker-supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Process id of the worker; None while there is none."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    @property
    def fails(self) -> bool:
        """Whether there is no worker now because the last ones ended soon after their start."""
        return self.pid is None and self._failures >= _MAX_FAILURES

    def stop(self) -> None:
        """Stops the worker and waits for it. It finishes its job within the drain time, or re-queues it."""
        with self._starting:
            self._stopped.set()
        if self._process is None:
            return
        self._process.terminate()
        self._thread.join(self._settings.drain_seconds + self._margin_seconds)
        if self._thread.is_alive():
            self._process.kill()
            self._thread.join()

    def _keep_alive(self) -> None:
        delay = self._first_delay
        while True:
            started = time.monotonic()
            code = self._run_once()
            if self._stopped.is_set():
                return
            if time.monotonic() - started > _STEADY_SECONDS:
                delay, self._failures = self._first_delay, 0
            self._failures += 1
            log.warning("the worker ended with code %s; it restarts in %.1f s", code, delay)
            self._stopped.wait(delay)
            delay = min(2 * delay, MAX_DELAY)

    def _run_once(self) -> int | None:
        with self._starting:
            if self._stopped.is_set():
                return None
            read_end, write_end = os.pipe()
            command = [*self._command, str(write_end)]
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, text=True, start_new_session=True, pass_fds=[write_end]
                )
            except OSError as error:
                log.error("the worker could not be started (%s)", error.strerror)
                os.close(read_end)
                return None
            finally:
                os.close(write_end)
            self._process = process
        threading.Thread(target=self._listen, args=(read_end,), name="worker-metrics", daemon=True).start()
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # the worker has ended already
            process.stdin.write(self._settings.model_dump_json() + "\n")
            process.stdin.flush()
        code = process.wait()
        with suppress(BrokenPipeError):  # closing flushes what could not be written
            process.stdin.close()
        return code

    def _listen(self, descriptor: int) -> None:
        """Passes on the worker's lines until it has ended."""
        with os.fdopen(descriptor) as lines:
            self._receive(lines)
