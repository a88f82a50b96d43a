"""Runs a job's tasks on a pool of workers, in order of their dependencies.

A task depends on its arguments alone and writes one file, which gets its final name when it is complete. A task may
therefore run twice without harm: on a worker that was given up, or beside a slow copy. An interrupted job resumes with
the tasks whose files are missing.
"""

from __future__ import annotations

import heapq
import statistics
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vcfbert.errors import VcfbertError

# A task gets a second copy once it has run this many times the median of its stage and at least this many seconds.
STRAGGLER_FACTOR = 3.0
STRAGGLER_SECONDS = 20.0
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Task:
    """A unit of work.

    ``run`` writes the file ``done``. It must be picklable, a module's function with its arguments, because it is sent
    to other machines. ``after``: names of the tasks whose files it reads. ``frees``: files to delete once it is done.
    """

    name: str
    stage: str
    run: Callable[[], None]
    done: Path
    after: tuple[str, ...] = ()
    frees: tuple[Path, ...] = ()


class WorkerLost(VcfbertError):
    """The workers of a task and of all its retries died."""

    exit_code = 3


class Pool(Protocol):
    """Workers that run tasks. Not thread-safe: one scheduler uses it at a time."""

    @property
    def slots(self) -> int:
        """Maximum number of submitted tasks, at least 1. It changes as machines join and leave."""

    def submit(self, task: Task) -> Hashable:
        """Submits a task, to run later. Each call returns a new handle."""

    def wait(self, handles: Collection[Hashable], timeout: float) -> Collection[Hashable]:
        """Waits up to ``timeout`` seconds for any of the handles to end. Returns the ended ones."""

    def result(self, handle: Hashable) -> float:
        """The run time of an ended task in seconds. Raises what the task raised, or WorkerLost."""

    def cancel(self, handle: Hashable) -> None:
        """Stops a task if possible. ``result`` is not called for it afterwards."""


def perform(task: Task) -> float:
    """Runs a task in this process, unless another copy has finished it. Returns the seconds it took."""
    started = time.perf_counter()
    if not task.done.exists():
        task.run()
    return time.perf_counter() - started


class InProcess:
    """A pool with one slot: this process."""

    slots = 1

    def submit(self, task: Task) -> Hashable:
        return task

    def wait(self, handles: Collection[Hashable], timeout: float) -> Collection[Hashable]:
        return list(handles)[:1]

    def result(self, handle: Hashable) -> float:
        assert isinstance(handle, Task)
        return perform(handle)

    def cancel(self, handle: Hashable) -> None:
        pass


@dataclass
class _Copy:
    task: Task
    started: float


class _Job:
    """The state of a job. ``ready``: a heap of the indices of tasks that wait for no other task."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tasks
        self.running: dict[Hashable, _Copy] = {}
        self.seconds: dict[str, list[float]] = {}  # of finished tasks, by stage
        names = {task.name for task in tasks}
        self.blocked_by = [len(names.intersection(task.after)) for task in tasks]
        self.readers: dict[str, list[int]] = {}
        for place, task in enumerate(tasks):
            for name in names.intersection(task.after):
                self.readers.setdefault(name, []).append(place)
        self.ready = [place for place, count in enumerate(self.blocked_by) if count == 0]

    def copies(self, task: Task) -> list[Hashable]:
        return [handle for handle, copy in self.running.items() if copy.task is task]

    def note_done(self, task: Task) -> None:
        for place in self.readers.get(task.name, []):
            self.blocked_by[place] -= 1
            if self.blocked_by[place] == 0:
                heapq.heappush(self.ready, place)


def unfinished(tasks: Sequence[Task]) -> list[Task]:
    """The tasks that must still run, in order. A finished task does not need its predecessors."""
    by_name = {task.name: task for task in tasks}
    read = {name for task in tasks for name in task.after}
    open_ = [task for task in tasks if task.name not in read]
    needed: set[str] = set()
    while open_:
        task = open_.pop()
        if task.name not in needed and not task.done.exists():
            needed.add(task.name)
            open_ += [by_name[name] for name in task.after]
    return [task for task in tasks if task.name in needed]


def run_tasks(
    tasks: Sequence[Task],
    pool: Pool,
    *,
    finished: Callable[[int], None] | None = None,
    straggler_seconds: float = STRAGGLER_SECONDS,
) -> None:
    """Runs the unfinished ``tasks``, each after its predecessors. ``finished`` receives the number of newly done ones.

    At most ``pool.slots`` tasks are submitted at a time, which bounds the queue and the intermediate files. If a slot
    is free and no task is ready, a straggling task gets a second copy, and the first copy to end counts. The first
    exception of a task is raised after all other tasks are cancelled.
    """
    left = unfinished(tasks)
    job = _Job(left)
    if finished is not None and len(left) < len(tasks):
        finished(len(tasks) - len(left))
    try:
        while job.ready or job.running:
            _submit(job, pool, straggler_seconds)
            for handle in pool.wait(list(job.running), _POLL_SECONDS):
                if handle in job.running and _end(job, pool, handle) and finished is not None:
                    finished(1)
    finally:
        for handle in job.running:
            pool.cancel(handle)


def _submit(job: _Job, pool: Pool, straggler_seconds: float) -> None:
    room = max(pool.slots - len(job.running), 0)
    chosen = [job.tasks[heapq.heappop(job.ready)] for _ in range(min(room, len(job.ready)))]
    if not chosen and not job.ready:
        chosen = _stragglers(job, straggler_seconds)[:room]
    for task in chosen:
        job.running[pool.submit(task)] = _Copy(task, time.monotonic())


def _stragglers(job: _Job, straggler_seconds: float) -> list[Task]:
    """Tasks that have one copy and have run far longer than others of their stage, the longest first."""
    now = time.monotonic()
    late = []
    for copy in job.running.values():
        known = job.seconds.get(copy.task.stage)
        if known and len(job.copies(copy.task)) == 1:
            patience = max(STRAGGLER_FACTOR * statistics.median(known), straggler_seconds)
            if now - copy.started > patience:
                late.append(copy)
    return [copy.task for copy in sorted(late, key=lambda copy: copy.started)]


def _end(job: _Job, pool: Pool, handle: Hashable) -> bool:
    """Handles an ended copy. Returns whether it completed its task."""
    task = job.running.pop(handle).task
    others = job.copies(task)
    try:
        seconds = pool.result(handle)
    except Exception:
        if others:  # another copy may still succeed
            return False
        raise
    for other in others:
        pool.cancel(other)
        del job.running[other]
    job.seconds.setdefault(task.stage, []).append(seconds)
    job.note_done(task)
    for path in task.frees:
        path.unlink(missing_ok=True)
    return True
