"""Runs a job's tasks on a pool of workers: in order of need, few at a time, none twice that is done.

A task is a function of nothing but its arguments that leaves a file under a name of its own, renamed when complete. So
a task may run twice without harm, on a worker that was given up for lost or beside a slow one, and a job that was
interrupted goes on with the tasks whose files are not there.
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

# A task that has taken this many times the median of its stage, and this many seconds, gets a second copy.
STRAGGLES = 3.0
MIN_SECONDS = 20.0
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Task:
    """``run`` writes ``done``; it is a module's function with its arguments, so that it can be sent to other machines.
    ``after``: names of tasks whose files it reads. ``frees``: files that nobody needs once it is done."""

    name: str
    stage: str
    run: Callable[[], None]
    done: Path
    after: tuple[str, ...] = ()
    frees: tuple[Path, ...] = ()


class WorkerLost(VcfbertError):
    """A task's worker died, and so did those of its retries."""

    exit_code = 3


class Pool(Protocol):
    """Workers that run tasks. Not thread-safe: one scheduler uses it at a time."""

    @property
    def slots(self) -> int:
        """Tasks to hand over at once, at least 1; it may change while machines come and go."""

    def submit(self, task: Task) -> Hashable:
        """Hands a task over, to run some time after; the handle is this call's own."""

    def wait(self, handles: Collection[Hashable], timeout: float) -> Collection[Hashable]:
        """Those of the handles that have ended, within ``timeout`` seconds."""

    def result(self, handle: Hashable) -> float:
        """The seconds that an ended task ran. Raises what the task raised, or WorkerLost."""

    def cancel(self, handle: Hashable) -> None:
        """Stops a task, if it can; its result will not be asked for."""


def perform(task: Task) -> float:
    """Runs a task where it stands, unless another copy was faster; the seconds it took. What pools call."""
    started = time.perf_counter()
    if not task.done.exists():
        task.run()
    return time.perf_counter() - started


class InProcess:
    """The pool of one that is this process."""

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
    """What is left of a job: ``ready`` is a heap of the places in ``tasks`` of those that wait for no other."""

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
    """Those that must still run, in order: a finished task needs none of those before it."""
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
    least_seconds: float = MIN_SECONDS,
) -> None:
    """Runs what is unfinished of ``tasks``, each after those it names; ``finished`` is told how many more are.

    No more than ``pool.slots`` are handed over at a time, so that neither a queue nor the files between the stages
    pile up. Where a slot is free and nothing ready, a copy runs beside a task that straggles; the first to end counts.
    Raises what a task raised first, once all others are cancelled.
    """
    left = unfinished(tasks)
    job = _Job(left)
    if finished is not None and len(left) < len(tasks):
        finished(len(tasks) - len(left))
    try:
        while job.ready or job.running:
            _hand_over(job, pool, least_seconds)
            for handle in pool.wait(list(job.running), _POLL_SECONDS):
                if handle in job.running and _end(job, pool, handle) and finished is not None:
                    finished(1)
    finally:
        for handle in job.running:
            pool.cancel(handle)


def _hand_over(job: _Job, pool: Pool, least_seconds: float) -> None:
    room = max(pool.slots - len(job.running), 0)
    chosen = [job.tasks[heapq.heappop(job.ready)] for _ in range(min(room, len(job.ready)))]
    if not chosen and not job.ready:
        chosen = _stragglers(job, least_seconds)[:room]
    for task in chosen:
        job.running[pool.submit(task)] = _Copy(task, time.monotonic())


def _stragglers(job: _Job, least_seconds: float) -> list[Task]:
    """Tasks of one copy that have run far longer than others of their stage, the longest first."""
    now = time.monotonic()
    late = []
    for copy in job.running.values():
        known = job.seconds.get(copy.task.stage)
        if known and len(job.copies(copy.task)) == 1:
            patience = max(STRAGGLES * statistics.median(known), least_seconds)
            if now - copy.started > patience:
                late.append(copy)
    return [copy.task for copy in sorted(late, key=lambda copy: copy.started)]


def _end(job: _Job, pool: Pool, handle: Hashable) -> bool:
    """Takes note of an ended copy; whether its task is done by it."""
    task = job.running.pop(handle).task
    others = job.copies(task)
    try:
        seconds = pool.result(handle)
    except Exception:
        if others:  # they may still succeed
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
