"""Jobs in the HTTP process: submission, counts and removal."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO

from vcfbert.errors import DiskFullError, ResourceError, VcfbertError

from ..settings import Settings
from ..storage import fault
from .files import JobFiles
from .job import Job, PinnedModel, new_id
from .observer import Observer, receive
from .queue import JobQueue
from .store import JobTable, open_table
from .supervisor import WorkerSupervisor
from .watch import BackendWatch

log = logging.getLogger(__name__)


class Jobs:
    """The job table, queue and files, and the embedded worker process if the settings ask for one.

    ``observer`` receives what the embedded worker measures.
    """

    def __init__(self, settings: Settings, observer: Observer) -> None:
        self._settings = settings
        self._table: JobTable | None = None
        self._queue: JobQueue | None = None
        self._watch: BackendWatch | None = None
        self._counting = threading.Lock()
        self._counts: dict[str, int] = {}
        self.files = JobFiles(settings.data)
        self.supervisor = (
            WorkerSupervisor(settings, partial(receive, observer=observer)) if settings.embedded_worker else None
        )

    def open(self) -> None:
        """Opens the job table. Raises VcfbertError if it cannot be used. A server calls it before it starts, because it
        could only tell a failed start by a traceback."""
        if self._table is None:
            self._table = open_table(self._settings)

    def start(self) -> None:
        """Opens table and queue and starts the embedded worker. Raises VcfbertError if the job table cannot be used.

        An unreachable queue does not prevent the start; jobs are refused until it answers.
        """
        self.open()
        assert self._table is not None
        self._queue = JobQueue(self._settings.redis_url, self._settings.data, seconds=self._settings.backend_seconds)
        self._watch = BackendWatch({"jobs": self._table.check, "queue": self._queue.check})
        self._watch.start()
        if self.supervisor is not None:
            self.supervisor.start()

    def stop(self) -> None:
        """Waits until the embedded worker has drained."""
        if self.supervisor is not None:
            self.supervisor.stop()
        if self._watch is not None:
            self._watch.stop()
        if self._table is not None:
            self._table.close()

    @property
    def table(self) -> JobTable:
        """The job table, once started."""
        assert self._table is not None, "not started"
        return self._table

    def counts(self) -> dict[str, int]:
        """The number of jobs in each state; empty if the table does not answer.

        One thread at a time asks the table. The others get what it answered last, so that none waits for it.
        """
        if not self._counting.acquire(blocking=False):
            return self._counts
        try:
            self._counts = {} if self._table is None or "jobs" in self.sick else self._table.counts()
        except VcfbertError:
            self._counts = {}
        finally:
            self._counting.release()
        return self._counts

    @property
    def sick(self) -> Mapping[str, str]:
        """``jobs`` (the table) and ``queue``, if they do not answer, with the code of the error."""
        return {} if self._watch is None else self._watch.sick

    def fault(self) -> str | None:
        """Why jobs cannot be done; None if they can. Writes to the disk for a moment."""
        broken = fault(self._settings.data)
        if broken is not None:
            return broken.what
        return "no worker can be started; see the log" if self.supervisor and self.supervisor.fails else None

    def submit(
        self, upload: BinaryIO, *, caller: str, name: str, options: Mapping[str, Any], model: PinnedModel
    ) -> Job:
        """Accepts a job. Upload, row and message are stored in this order, so no job is lost if the process ends
        between two steps. Raises QueueFullError, and ResourceError if one of them cannot be stored."""
        self.table.check_room(caller)
        job_id = new_id()
        try:
            size = self.files.store_upload(job_id, upload)
            job = self.table.accept(job_id, caller=caller, name=name, size=size, options=options, model=model)
        except BaseException:
            with suppress(ResourceError):  # housekeeping tries again
                self.files.remove(job_id)
            raise
        try:
            assert self._queue is not None, "not started"
            self._queue.enqueue(job_id)
        except ResourceError:
            # Housekeeping may have sent the message meanwhile and a worker may have claimed the job: it is accepted.
            if self.table.withdraw(job_id):
                self.files.remove(job_id)
                raise
        return job

    def remove(self, caller: str, job_id: str) -> None:
        """Cancels a job, or deletes one that has ended, and deletes its files. Raises InputError 'job_unknown',
        ResourceError 'storage_unusable' if its files stay.

        The files go first: that needs no space, and makes some for the row.
        """
        self.table.get(caller, job_id)
        self.files.remove_marked(job_id)
        try:
            self.table.remove(caller, job_id)
        except DiskFullError:
            log.warning("job %s: its files are deleted; its row follows when the disk has room", job_id)
            return
        self.files.remove(job_id)  # its worker may have written meanwhile
        self.files.forget(job_id)
