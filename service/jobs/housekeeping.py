"""Periodic work of every worker: re-queue jobs of dead workers, resend lost messages, delete files of expired jobs.

Each step may run twice or on several workers at once; the result is the same.
"""

from __future__ import annotations

import logging

from .files import JobFiles
from .queue import JobQueue
from .store import JobTable

log = logging.getLogger(__name__)


def recover(table: JobTable, queue: JobQueue) -> None:
    """Re-queues jobs whose worker died, and resends the message of each queued job that has none.

    A broker drops a message when a worker takes it, and Redis may lose all messages.
    """
    for job in table.recover():
        log.warning("job %s: its worker died in attempt %d", job.id, job.attempt)
    waiting = table.waiting()
    if waiting:
        announced = queue.waiting()
        for job_id in waiting:
            if job_id not in announced:
                queue.enqueue(job_id)


def expire(table: JobTable, files: JobFiles) -> None:
    """Deletes the files of expired jobs, and leftovers of interrupted requests, cancelled jobs and dead workers."""
    for job_id in table.overdue():  # files first: that needs no space, and makes some for the rows
        files.remove(job_id)
    for job_id in table.expire():
        log.info("job %s: expired", job_id)
    for job_id in files.marked():
        files.remove_marked(job_id)
        table.discard(job_id)
        files.forget(job_id)
    for job_id in table.without_files(files.untouched()):
        files.remove(job_id)
    # A worker that died after its job's end, or with it, has not deleted the upload.
    for job_id in table.ended(files.with_leftovers()):
        files.remove_leftovers(job_id)
