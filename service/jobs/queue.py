"""The queue that sends job ids to workers: Huey over SQLite in the data folder, or over Redis for several hosts.

A message is a job's id. It wakes a worker, which asks the job table whose turn it is. A lost message is sent again from
the table. A duplicate finds no job.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huey import Huey, RedisHuey, SqliteHuey  # type: ignore[import-untyped]
from huey.registry import Message  # type: ignore[import-untyped]
from huey.serializer import Serializer  # type: ignore[import-untyped]
from redis import ConnectionError, ConnectionPool
from redis.backoff import NoBackoff
from redis.retry import Retry

from vcfbert.artifacts import disk_full
from vcfbert.errors import ResourceError

from .table import SQLITE_FULL

NAME = "vcfbert"
_POLL_SECONDS = 1  # that a request for a message waits for one


class JsonSerializer(Serializer):  # type: ignore[misc]
    """Messages as JSON. Huey's default is pickle, which would let anyone who can write to the broker run code here."""

    def _serialize(self, data: Message) -> bytes:
        return json.dumps(list(data)).encode()

    def _deserialize(self, data: bytes) -> Message:
        return Message(*json.loads(data))


class JobQueue:
    """``run``: called by a worker with a job's id; None in a process that only sends. ``seconds``: in which Redis must
    answer."""

    def __init__(
        self, redis_url: str, data: Path, run: Callable[[str], None] | None = None, *, seconds: float = 5.0
    ) -> None:
        self.huey = _huey(redis_url, data, seconds)

        def run_job(job_id: str) -> None:
            assert run is not None, "this process runs no consumer"
            run(job_id)

        self._task = self.huey.task(name="run_job")(run_job)

    def enqueue(self, job_id: str) -> None:
        """Sends a job's message. Raises ResourceError 'queue_unreachable', and DiskFullError."""
        with _reached():
            self._task(job_id)

    def check(self) -> None:
        """Raises ResourceError 'queue_unreachable' if the queue does not answer."""
        with _reached():
            self.huey.pending_count()

    def waiting(self) -> set[str]:
        """Ids of the jobs that have a message. Raises ResourceError 'queue_unreachable'."""
        with _reached():
            return {task.args[0] for task in self.huey.pending() if task.name == "run_job"}


class _reached:
    """Turns the exceptions of any broker into ResourceError 'queue_unreachable' or DiskFullError."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None and SQLITE_FULL in str(error):
            raise disk_full(OSError(errno.ENOSPC, "no space for the job queue"), None) from error
        if isinstance(error, Exception):
            raise ResourceError(
                "queue_unreachable",
                f"the job queue cannot be reached ({type(error).__name__})",
                hint="try again; the operator should look at VCFBERT_REDIS_URL or VCFBERT_DATA",
            ) from error


def _huey(redis_url: str, data: Path, seconds: float) -> Huey:
    if redis_url:
        waits = _POLL_SECONDS + seconds  # a worker's connection waits for messages for a while
        again = Retry(NoBackoff(), 1, supported_errors=(ConnectionError,))  # after a restart, not after a time-out
        limits = {"socket_connect_timeout": seconds, "socket_timeout": waits, "retry": again}
        pool = ConnectionPool.from_url(redis_url, **limits)
        return RedisHuey(
            NAME, connection_pool=pool, read_timeout=_POLL_SECONDS, results=False, serializer=JsonSerializer()
        )
    data.mkdir(parents=True, exist_ok=True)
    filename = str(data / "queue.sqlite")
    return SqliteHuey(NAME, filename=filename, results=False, serializer=JsonSerializer(), timeout=30)
