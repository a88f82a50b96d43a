"""The job table. Each change of a job's state is one conditional UPDATE, so of two that compete only one succeeds."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, and_, case, delete, func, insert, or_, select, tuple_, update
from sqlalchemy.sql.elements import ColumnElement

from vcfbert.errors import InputError, ResourceError

from ..settings import Settings
from . import job as states
from .job import Claim, Job, PinnedModel, is_gone
from .table import connect, format_row, jobs, transaction

MAX_ATTEMPTS = 3
FORGET_SECONDS = 14 * 86_400.0  # a job's row is kept for this long after its files are deleted
_ID = re.compile(r"[0-9a-f]{32}")
_RECENT = 20  # finished jobs from which the duration of a job is estimated
_TYPICAL_SECONDS = 30.0  # assumed duration of a job before any has finished
_LISTED = [column for column in jobs.c if column.name not in ("qc", "summary")]  # those can take 100 KB each
_BACK: dict[str, Any] = {"state": states.QUEUED, "worker": None, "heartbeat": None, "started": None, "done": 0}


class QueueFullError(ResourceError):
    """The maximum number of jobs is queued: of all callers, or of this caller if ``own``.

    ``retry_after``: seconds until a place is likely to be free.
    """

    def __init__(self, limit: int, retry_after: int, *, own: bool = False) -> None:
        whose = "of your jobs" if own else "jobs"
        super().__init__("queue_full", f"{limit} {whose} are queued, which is the limit", hint="send it again later")
        self.retry_after = retry_after


def job_unknown() -> InputError:
    """The same error for a job that does not exist and for a job of another caller."""
    return InputError("job_unknown", "there is no such job", hint="GET /v1/jobs lists yours")


def _check_id(job_id: str) -> None:
    """Raises InputError 'job_unknown' for text that is no id, which PostgreSQL may not take."""
    if not _ID.fullmatch(job_id):
        raise job_unknown()


class JobTable:
    """The state of all jobs. Threads and processes may use it at once.

    ``queue_limit``: maximum queued jobs. ``queued_per_caller``: maximum queued jobs of one caller. ``result_seconds``:
    how long results are kept. ``stale_seconds``: a worker without a heartbeat for this long is taken for dead; the
    clocks of hosts that share the table must differ by less.

    Every method raises ResourceError 'jobs_unreachable' if the database does not answer.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        queue_limit: int,
        queued_per_caller: int,
        result_seconds: float,
        stale_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._queue_limit = queue_limit
        self._queued_per_caller = queued_per_caller
        self._result_seconds = result_seconds
        self._stale_seconds = stale_seconds
        self._clock = clock

    def close(self) -> None:
        """Closes the connections to the database."""
        self._engine.dispose()

    # For callers.

    def check_room(self, caller: str) -> None:
        """Raises QueueFullError if no job can be queued. Called before an upload is stored; ``accept`` counts again."""
        with transaction(self._engine) as connection:
            reached = self._limit_reached(connection, caller)
        if reached is not None:
            raise self._full(*reached)

    def accept(
        self, job_id: str, *, caller: str, name: str, size: int, options: Mapping[str, Any], model: PinnedModel
    ) -> Job:
        """Inserts the row of a job whose upload is on disk. It is committed on return. Raises QueueFullError."""
        row = {
            "id": job_id, "caller": caller, "state": states.QUEUED, "name": name, "size": size,
            "options": dict(options), "model": model.as_json(), "created": self._clock(),
        }  # fmt: skip
        with transaction(self._engine, writes=True) as connection:
            connection.execute(select(format_row.c.version).with_for_update())
            reached = self._limit_reached(connection, caller)
            if reached is None:
                # No query follows the commit: if it failed, an accepted job would seem to be refused.
                job = _job(connection.execute(insert(jobs).values(row).returning(*jobs.c)).one())
        if reached is not None:
            raise self._full(*reached)
        return job

    def _limit_reached(self, connection: Connection, caller: str) -> tuple[int, bool] | None:
        """The limit that the queued jobs have reached, and whether it is the caller's own; None if none is reached."""
        waiting = _count(states.QUEUED)
        if connection.execute(waiting).scalar_one() >= self._queue_limit:
            return self._queue_limit, False
        if connection.execute(waiting.where(jobs.c.caller == caller)).scalar_one() >= self._queued_per_caller:
            return self._queued_per_caller, True
        return None

    def _full(self, limit: int, own: bool) -> QueueFullError:
        return QueueFullError(limit, self.retry_after(), own=own)

    def withdraw(self, job_id: str) -> bool:
        """Deletes the row of an accepted job that could not be enqueued. False if a worker has claimed it."""
        return self._change(delete(jobs).where(jobs.c.id == job_id, jobs.c.state == states.QUEUED))

    def get(self, caller: str, job_id: str) -> Job:
        """The caller's job. Raises InputError 'job_unknown'."""
        _check_id(job_id)
        found = self._select(jobs.c.id == job_id, jobs.c.caller == caller)
        if not found:
            raise job_unknown()
        return found[0]

    def page(self, caller: str, limit: int, after: tuple[float, str] | None = None) -> list[Job]:
        """Up to ``limit`` jobs of the caller without their QC reports and summaries, newest first.

        ``after``: creation time and id of the last job of the page before, which need not exist any more.
        """
        query = select(*_LISTED).where(jobs.c.caller == caller)
        if after is not None:
            query = query.where(tuple_(jobs.c.created, jobs.c.id) < tuple_(*after))
        query = query.order_by(jobs.c.created.desc(), jobs.c.id.desc()).limit(limit)
        with transaction(self._engine) as connection:
            return [_job(row, qc=None, summary=None) for row in connection.execute(query)]

    def position(self, job: Job) -> int | None:
        """The job's place in the queue, from 1; None if it is not queued. Callers take turns (``claim_next``)."""
        if job.state != states.QUEUED:
            return None
        before = or_(jobs.c.created < job.created, and_(jobs.c.created == job.created, jobs.c.id <= job.id))
        waiting = select(jobs.c.caller, func.count(), func.min(jobs.c.created)).where(jobs.c.state == states.QUEUED)
        with transaction(self._engine) as connection:
            own: int = connection.execute(_count(states.QUEUED).where(before, jobs.c.caller == job.caller)).scalar_one()
            queues = {row[0]: (row[1], row[2]) for row in connection.execute(waiting.group_by(jobs.c.caller))}
        _, first = queues.pop(job.caller, (own, job.created))
        return own + sum(min(int(n), own if oldest < first else own - 1) for n, oldest in queues.values())

    def remove(self, caller: str, job_id: str) -> None:
        """Cancels a queued or running job, or deletes the row of one that has ended.

        The worker of a running job notices at its next heartbeat. The caller of this method deletes the files.
        Raises InputError 'job_unknown'.
        """
        _check_id(job_id)
        self._remove(jobs.c.id == job_id, jobs.c.caller == caller)

    def _remove(self, *own: ColumnElement[bool]) -> None:
        active = jobs.c.state.in_((states.QUEUED, states.RUNNING))
        cancelled = update(jobs).where(*own, active).values(state=states.CANCELLED, finished=self._clock(), worker=None)
        if not self._change(cancelled) and not self._change(delete(jobs).where(*own)):
            raise job_unknown()

    def counts(self) -> dict[str, int]:
        """The number of jobs in each state."""
        with transaction(self._engine) as connection:
            rows = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state)).all()
        return dict.fromkeys(states.STATES, 0) | {state: n for state, n in rows}

    def check(self) -> None:
        """Reads a row, so that an unreachable table raises its error."""
        with transaction(self._engine) as connection:
            connection.execute(select(format_row.c.version)).scalar_one()

    def retry_after(self) -> int:
        """Seconds until a place in the queue is likely to be free: the mean duration of recent jobs, divided by the
        number of running jobs."""
        recent = (
            select((jobs.c.finished - jobs.c.started).label("seconds"))
            .where(jobs.c.state == states.DONE)
            .order_by(jobs.c.finished.desc())
            .limit(_RECENT)
            .subquery()
        )
        with transaction(self._engine) as connection:
            seconds = connection.execute(select(func.avg(recent.c.seconds))).scalar_one()
            running = connection.execute(_count(states.RUNNING)).scalar_one()
        each = _TYPICAL_SECONDS if seconds is None else float(seconds)
        return min(max(round(each / (running or 1)), 1), 3600)

    # For workers.

    def claim(self, job_id: str, worker: str) -> tuple[Claim, Job] | None:
        """Claims a queued job for ``worker``; None if it is no longer queued."""
        now = self._clock()
        claimed = (
            update(jobs)
            .where(jobs.c.id == job_id, jobs.c.state == states.QUEUED)
            .values(
                state=states.RUNNING, worker=worker, started=now, heartbeat=now, attempt=jobs.c.attempt + 1,
                done=0, total=0, qc=None,
            )
            .returning(*jobs.c)
        )  # fmt: skip
        with transaction(self._engine, writes=True) as connection:
            row = connection.execute(claimed).one_or_none()
        if row is None:
            return None
        job = _job(row)
        return Claim(job_id, worker, job.attempt), job

    def claim_next(self, worker: str) -> tuple[Claim, Job] | None:
        """Claims the queued job whose turn it is; None if no job is queued.

        Callers take turns: it is the oldest job of the caller with the fewest running jobs, and among those of the one
        whose last job started earliest.
        """
        while (job_id := self._next()) is not None:
            taken = self.claim(job_id, worker)
            if taken is not None:  # else another worker was faster
                return taken
        return None

    def _next(self) -> str | None:
        queued = select(jobs.c.caller, jobs.c.id).where(jobs.c.state == states.QUEUED)
        running = func.sum(case((jobs.c.state == states.RUNNING, 1), else_=0))
        turns = select(jobs.c.caller, running, func.max(jobs.c.started)).group_by(jobs.c.caller)
        with transaction(self._engine) as connection:
            oldest: dict[str, str] = {}
            for caller, job_id in connection.execute(queued.order_by(jobs.c.created, jobs.c.id)):
                oldest.setdefault(caller, job_id)
            if len(oldest) < 2:
                return next(iter(oldest.values()), None)
            rows = connection.execute(turns.where(jobs.c.caller.in_(oldest))).all()
        turn_of = {caller: (running, started or 0.0) for caller, running, started in rows}
        return oldest[min(oldest, key=lambda caller: turn_of.get(caller, (0, 0.0)))]

    def heartbeat(self, claim: Claim, *, done: int, total: int, qc: Mapping[str, Any] | None = None) -> bool:
        """Stores the worker's heartbeat and progress. False if the claim is lost."""
        values: dict[str, Any] = {"heartbeat": self._clock(), "done": done, "total": total}
        return self._change(update(jobs).where(*_held(claim)).values(values | ({} if qc is None else {"qc": dict(qc)})))

    def finish(self, claim: Claim, *, qc: Mapping[str, Any], summary: Mapping[str, Any]) -> bool:
        """Marks the job done; call it after the results are published. False if the claim is lost."""
        ended = self._ended(states.DONE)
        return self._change(
            update(jobs).where(*_held(claim)).values(**ended, qc=dict(qc), summary=dict(summary), done=jobs.c.total)
        )

    def fail(self, claim: Claim, error: Mapping[str, Any], *, qc: Mapping[str, Any] | None = None) -> bool:
        """Marks the job failed. ``error``: code, detail, where, hint. False if the claim is lost."""
        values = self._ended(states.FAILED) | {"error": dict(error)} | ({} if qc is None else {"qc": dict(qc)})
        return self._change(update(jobs).where(*_held(claim)).values(values))

    def release(self, claim: Claim) -> bool:
        """Re-queues a job whose worker must stop. The attempt does not count. False if the claim is lost."""
        back = _BACK | {"attempt": claim.attempt - 1}
        return self._change(update(jobs).where(*_held(claim)).values(back))

    # For housekeeping. Several workers may call these at once.

    def waiting(self) -> list[str]:
        """Ids of the queued jobs, in order of arrival."""
        return self._ids(jobs.c.state == states.QUEUED)

    def recover(self) -> list[Job]:
        """Re-queues jobs whose worker died, or fails them after MAX_ATTEMPTS. Returns these jobs."""
        oldest = self._clock() - self._stale_seconds
        running = self._select(jobs.c.state == states.RUNNING)
        return [job for job in running if self._is_dead(job, oldest) and self._take_back(job)]

    def _is_dead(self, job: Job, oldest: float) -> bool:
        return job.worker is None or is_gone(job.worker) or job.heartbeat is None or job.heartbeat < oldest

    def _take_back(self, job: Job) -> bool:
        values = _BACK
        if job.attempt >= MAX_ATTEMPTS:
            error = {
                "code": "worker_died",
                "detail": f"the process that ran this job died, {job.attempt} times",
                "where": None,
                "hint": "host memory may have run out: send fewer samples at once, or ask the operator",
            }
            values = self._ended(states.FAILED) | {"error": error}
        same = (jobs.c.id == job.id, jobs.c.state == states.RUNNING, jobs.c.worker == job.worker)
        return self._change(update(jobs).where(*same, jobs.c.heartbeat == job.heartbeat).values(values))

    def overdue(self) -> list[str]:
        """Ids of the jobs that ended ``result_seconds`` ago and whose files are to be deleted."""
        return self._ids(*self._is_overdue())

    def _is_overdue(self) -> tuple[ColumnElement[bool], ...]:
        return (jobs.c.state.in_((states.DONE, states.FAILED)), jobs.c.expires <= self._clock())

    def discard(self, job_id: str) -> None:
        """Cancels a job whose files its caller deleted, or deletes its row if it has ended."""
        with suppress(InputError):  # another process was faster
            self._remove(jobs.c.id == job_id, jobs.c.state != states.CANCELLED)

    def expire(self) -> list[str]:
        """Marks overdue jobs as expired, once their files are deleted, and returns their ids.

        An expired job has no QC report and no summary. Rows of jobs that expired or were cancelled long ago are
        deleted.
        """
        now, over = self._clock(), self._is_overdue()
        ids = self._ids(*over)
        ended = jobs.c.state.in_((states.EXPIRED, states.CANCELLED))
        long_ago = jobs.c.finished <= now - self._result_seconds - FORGET_SECONDS
        self._change(delete(jobs).where(ended, long_ago))
        expired = update(jobs).values(state=states.EXPIRED, qc=None, summary=None)
        return [job_id for job_id in ids if self._change(expired.where(jobs.c.id == job_id, *over))]

    def ended(self, job_ids: list[str]) -> set[str]:
        """Those of ``job_ids`` that are done or failed."""
        return set(job_ids) & set(self._ids(jobs.c.state.in_((states.DONE, states.FAILED))))

    def without_files(self, job_ids: list[str]) -> set[str]:
        """Those of ``job_ids`` whose files are to be deleted: cancelled, expired or unknown jobs."""
        kept = self._ids(jobs.c.state.in_((states.QUEUED, states.RUNNING, states.DONE, states.FAILED)))
        return set(job_ids) - set(kept)

    def _ended(self, state: str) -> dict[str, Any]:
        now = self._clock()
        return {"state": state, "finished": now, "expires": now + self._result_seconds, "worker": None}

    def _select(self, *where: ColumnElement[bool]) -> list[Job]:
        with transaction(self._engine) as connection:
            rows = connection.execute(select(jobs).where(*where).order_by(jobs.c.created, jobs.c.id)).all()
        return [_job(row) for row in rows]

    def _ids(self, *where: ColumnElement[bool]) -> list[str]:
        with transaction(self._engine) as connection:
            return list(
                connection.execute(select(jobs.c.id).where(*where).order_by(jobs.c.created, jobs.c.id)).scalars()
            )

    def _change(self, statement: Any) -> bool:
        with transaction(self._engine, writes=True) as connection:
            return bool(connection.execute(statement).rowcount)


def open_table(settings: Settings) -> JobTable:
    """The job table that the settings name. Raises VcfbertError if it cannot be reached or has another format."""
    return JobTable(
        connect(settings.database_url, settings.data, settings.backend_seconds),
        queue_limit=settings.queue_limit,
        # Without API keys all callers are one.
        queued_per_caller=settings.queued_per_key if settings.api_keys else settings.queue_limit,
        result_seconds=settings.result_hours * 3600,
        stale_seconds=settings.stale_seconds,
    )


def _count(state: str) -> Select[int]:
    return select(func.count()).select_from(jobs).where(jobs.c.state == state)


def _held(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    return (
        jobs.c.id == claim.job_id,
        jobs.c.state == states.RUNNING,
        jobs.c.worker == claim.worker,
        jobs.c.attempt == claim.attempt,
    )


def _job(row: Row[Any], **more: Any) -> Job:
    values = {**row._mapping, **more}
    return Job(**{**values, "model": PinnedModel.from_json(values["model"])})
