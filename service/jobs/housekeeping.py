"""What is done from time to time, by every worker: jobs of dead workers taken back, lost messages sent again, files
of ended jobs deleted. Doing any of it twice, or at once elsewhere, changes nothing."""

from __future__ import annotations

import logging

from .files import JobFiles
from .queue import JobQueue
from .store import JobTable

log = logging.getLogger(__name__)


def recover(table: JobTable, queue: JobQueue) -> None:
    """Jobs whose worker died wait again, and every job that waits has a message: brokers forget it when a worker takes
    it, and Redis may have lost all."""
    for job in table.recover():
        log.warning("job %s: its worker has died in attempt %d", job.id, job.attempt)
    waiting = table.waiting()
    if waiting:
        announced = queue.waiting()
        for job_id in waiting:
            if job_id not in announced:
                queue.enqueue(job_id)


def expire(table: JobTable, files: JobFiles) -> None:
    """Deletes the files of jobs whose time is over, and what cut-off requests and cancelled jobs have left."""
    for job_id in table.expire():
        log.info("job %s: expired", job_id)
        files.remove(job_id)
    for job_id in table.without_files(files.untouched()):
        files.remove(job_id)
