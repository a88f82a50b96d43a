"""A worker that runs jobs: ``python -m service.worker``, one per device, on any host that shares table and queue.

With ``--embedded N`` it belongs to a service process. It then reads its settings from standard input and writes its
measurements to file descriptor N.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from huey import Huey  # type: ignore[import-untyped]
from huey.consumer import Consumer, Scheduler  # type: ignore[import-untyped]

from vcfbert.errors import VcfbertError

from .allocator import share_freed
from .http import logs
from .jobs.files import JobFiles
from .jobs.housekeeping import expire, recover
from .jobs.job import new_worker
from .jobs.observer import Observer, SentMetrics
from .jobs.queue import JobQueue
from .jobs.run import JobRunner, LoadedModels
from .jobs.store import open_table
from .jobs.supervisor import EMBEDDED
from .models.bundles import BundleSource
from .models.model import ModelSource
from .settings import Settings, read_settings
from .storage import keep_private
from .uploads.files import check_upload, open_parsers
from .uploads.kept import KeptUploads
from .worker_metrics import served_metrics

log = logging.getLogger(__name__)

OpenSource = Callable[[Settings, Callable[[str, float], None]], ModelSource]  # settings, observer of searches

HOUSEKEEPING_SECONDS = 10.0
_MAX_PAUSE = 0.5  # seconds between two checks of an empty SQLite queue; Redis notifies
_RELEASE_SECONDS = 5.0  # allowed for a job to stop between two blocks, after draining


class HousekeepingScheduler(Scheduler):  # type: ignore[misc]
    """Runs periodic tasks in its own thread. The only worker thread may be busy with a job for an hour."""

    periodic_task_seconds = HOUSEKEEPING_SECONDS

    def enqueue_periodic_tasks(self, now: datetime | None) -> None:
        for task in self.huey.read_periodic(now):
            self.huey.execute(task, now)


class JobConsumer(Consumer):  # type: ignore[misc]
    """Takes messages from the queue and runs their jobs in one worker thread."""

    scheduler_class = HousekeepingScheduler

    def _set_signal_handlers(self) -> None:
        super()._set_signal_handlers()
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # Huey would restart the process with the same arguments


def run_worker(settings: Settings, source: ModelSource, observer: Observer) -> None:
    """Runs jobs until SIGTERM. It then finishes the current job within the drain time, or re-queues it."""
    table, files, kept = open_table(settings), JobFiles(settings.data), KeptUploads(settings)
    parsers = open_parsers(settings)
    runner = JobRunner(
        table,
        files,
        LoadedModels(source),
        worker=new_worker(),
        max_seconds=settings.max_seconds,
        stale_seconds=settings.stale_seconds,
        parsers=parsers,
        chains=settings.chain_files,
        check_upload=lambda target, parser, check: check_upload(target, settings, parser, check),
        observe=observer.job,
        end_process=lambda: os._exit(1),
    )
    queue = JobQueue(settings.redis_url, settings.data, runner.run, seconds=settings.backend_seconds)
    every(queue.huey, "recover", lambda: recover(table, queue))
    every(queue.huey, "expire", lambda: expire(table, files))
    every(queue.huey, "expire uploads", kept.expire)
    queue.huey.on_startup()(parsers.warm_up)
    queue.huey.on_startup()(import_imputation)
    consumer = JobConsumer(
        queue.huey, workers=1, max_delay=_MAX_PAUSE, shutdown_timeout=settings.drain_seconds, graceful_signal="TERM"
    )
    consumer.run()
    runner.stop(_RELEASE_SECONDS)


def every(huey: Huey, name: str, act: Callable[[], None]) -> None:
    """Registers a task that runs every ``HOUSEKEEPING_SECONDS``. Its VcfbertError is logged."""

    def task() -> None:
        try:
            act()
        except VcfbertError as error:
            log.warning("%s: %s (%s)", name, error.what, error.code)

    huey.periodic_task(lambda now: True, name=name)(task)


def import_imputation() -> None:
    """Imports torch before the first job, because that takes seconds."""
    import vcfbert.imputation.files  # noqa: F401


def embedded_settings() -> Settings:
    """The settings that the service sent. From then on this process ends when the service does, because the pipe
    closes."""
    values: dict[str, Any] = json.loads(sys.stdin.readline())

    def end_with_parent() -> None:
        os.read(sys.stdin.fileno(), 1)
        os.kill(os.getpid(), signal.SIGKILL)  # at once: another service may start a worker for this device

    threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
    return Settings(**values)


@contextmanager
def alone(data: Path) -> Iterator[None]:
    """Waits until no other embedded worker uses this data folder. A service may run as several processes."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / "worker.lock").open("a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.2)
        yield


def main(open_source: OpenSource = BundleSource) -> None:
    """Runs a worker and ends its process. Exits with the code of a VcfbertError."""
    embedded = EMBEDDED in sys.argv[1:]
    try:
        settings = embedded_settings() if embedded else read_settings()
        logs.configure(settings.log_json)
        keep_private(settings.data)
        share_freed()
        with alone(settings.data) if embedded else nullcontext():
            observer = SentMetrics(int(sys.argv[-1])) if embedded else served_metrics(settings)
            run_worker(settings, open_source(settings, observer.retrieval), observer)
    except VcfbertError as error:
        print(f"error [{error.code}] {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.stdout.flush()
    # Do not wait for the thread of a job that did not stop.
    os._exit(0)


if __name__ == "__main__":
    main()
