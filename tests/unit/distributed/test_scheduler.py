"""The scheduler: order, slots, resumption, stragglers and errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Hashable
from functools import partial
from pathlib import Path

import pytest

from vcfbert.distributed.scheduler import InProcess, Task, perform, run_tasks, unfinished


def touch(path: Path, log: list[str]) -> None:
    log.append(path.name)
    path.touch()


def chain(folder: Path, log: list[str], n: int = 3) -> list[Task]:
    """n tasks a and n tasks b. Each b needs the a of its number and the a before."""
    tasks = []
    for i in range(n):
        a, b = folder / f"a{i}", folder / f"b{i}"
        before = tuple(f"a{j}" for j in (i - 1, i) if j >= 0)
        tasks.append(Task(f"a{i}", "a", partial(touch, a, log), a))
        tasks.append(Task(f"b{i}", "b", partial(touch, b, log), b, after=before))
    return tasks


class Threads:
    """A pool of threads that records what is submitted."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.running: dict[Hashable, threading.Thread] = {}
        self.outcomes: dict[Hashable, float | Exception] = {}
        self.max_running = 0
        self.submitted: list[str] = []
        self.cancelled: list[Hashable] = []

    def submit(self, task: Task) -> Hashable:
        handle = len(self.submitted)
        self.submitted.append(task.name)
        self.running[handle] = threading.Thread(target=self.run_task, args=(handle, task), daemon=True)
        self.running[handle].start()
        self.max_running = max(self.max_running, len(self.running))
        return handle

    def run_task(self, handle: Hashable, task: Task) -> None:
        try:
            self.outcomes[handle] = perform(task)
        except Exception as error:
            self.outcomes[handle] = error

    def wait(self, handles: Collection[Hashable], timeout: float) -> Collection[Hashable]:
        for _ in range(100):
            ended = [handle for handle in handles if handle in self.outcomes]
            if ended:
                return ended
            time.sleep(0.005)
        return []

    def result(self, handle: Hashable) -> float:
        self.running.pop(handle)
        outcome = self.outcomes[handle]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def cancel(self, handle: Hashable) -> None:
        self.running.pop(handle)
        self.cancelled.append(handle)


def test_tasks_run_in_order_after_their_predecessors(tmp_path: Path) -> None:
    log: list[str] = []
    finished: list[int] = []
    run_tasks(chain(tmp_path, log), InProcess(), finished=finished.append)
    assert log == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert finished == [1] * 6


def test_submitted_tasks_never_exceed_the_slots(tmp_path: Path) -> None:
    pool = Threads(3)
    log: list[str] = []
    run_tasks(chain(tmp_path, log, 20), pool)
    assert pool.max_running == 3
    assert sorted(log) == sorted(pool.submitted) == sorted(task.name for task in chain(tmp_path, log, 20))
    for i in range(20):
        assert log.index(f"b{i}") > log.index(f"a{i}")


def test_finished_tasks_and_their_predecessors_do_not_run_again(tmp_path: Path) -> None:
    log: list[str] = []
    for name in ("b0", "b1"):  # the files that they read are missing
        (tmp_path / name).touch()
    assert [task.name for task in unfinished(chain(tmp_path, log))] == ["a1", "a2", "b2"]  # b2 reads a1
    finished: list[int] = []
    run_tasks(chain(tmp_path, log), InProcess(), finished=finished.append)
    assert log == ["a1", "a2", "b2"]
    assert finished == [3, 1, 1, 1]
    run_tasks(chain(tmp_path, log), InProcess(), finished=finished.append)
    assert finished[4:] == [6]


def test_freed_files_are_deleted(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    log: list[str] = []
    tasks = [Task("a", "s", partial(touch, a, log), a), Task("b", "s", partial(touch, b, log), b, ("a",), frees=(a,))]
    run_tasks(tasks, InProcess())
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    run_tasks(tasks, InProcess())
    assert log == ["a", "b"]


def hang(path: Path, mark: Path, release: threading.Event) -> None:
    if mark.exists():
        path.write_text("second")
        return
    mark.touch()
    release.wait(20)


def test_straggler_gets_one_copy_and_the_first_to_end_counts(tmp_path: Path) -> None:
    log: list[str] = []
    release = threading.Event()
    slow = tmp_path / "slow"
    tasks = [Task("slow", "s", partial(hang, slow, tmp_path / "mark", release), slow)]
    tasks += [Task(str(i), "s", partial(touch, tmp_path / str(i), log), tmp_path / str(i)) for i in range(4)]
    pool = Threads(2)
    run_tasks(tasks, pool, straggler_seconds=0.2)
    release.set()
    assert slow.read_text() == "second"
    assert pool.submitted.count("slow") == 2
    assert pool.cancelled == [0]
    assert len(log) == 4


def fail(path: Path) -> None:
    raise ValueError(path.name)


def test_first_error_ends_the_job_and_cancels_the_rest(tmp_path: Path) -> None:
    release = threading.Event()
    waiting = tmp_path / "waiting"
    tasks = [
        Task("waiting", "s", partial(hang, waiting, tmp_path / "mark", release), waiting),
        Task("bad", "s", partial(fail, tmp_path / "bad"), tmp_path / "bad"),
        Task("never", "s", partial(fail, tmp_path / "never"), tmp_path / "never", after=("bad",)),
    ]
    pool = Threads(2)
    with pytest.raises(ValueError, match="bad"):
        run_tasks(tasks, pool)
    release.set()
    assert pool.cancelled == [0]
    assert "never" not in pool.submitted
