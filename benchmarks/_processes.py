"""Runs a program in a process of its own and measures its time and the memory of it and its children."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
# Seconds between two readings: short at first, for short processes; longer later, to disturb little.
FIRST_POLL, LAST_POLL, POLL_GROWTH = 0.003, 0.05, 1.05


@dataclass(frozen=True)
class Finished:
    """The outcome of a run. ``peak_mib`` is the maximum, over time, of the summed peaks of the living processes.

    Allocations after the last reading, at most ``LAST_POLL`` seconds before the end, are missed. It is 0 for a process
    of a few milliseconds and on systems without /proc."""

    seconds: float
    cpu_seconds: float  # user and system, of the process and of its children that have ended
    peak_mib: float
    status: int
    stopped: bool  # at the time limit
    out: str
    err: str


def run_measured(
    command: Sequence[str], *, limit: float, environment: Mapping[str, str], whole: bool = True
) -> Finished:
    """Runs ``command`` for ``limit`` seconds at most, then ends it with its children.

    ``environment`` is added to that of this process. ``whole``: measure the process and its children; otherwise only
    the children, for a process that only starts another.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,  # so that its children end with it
        )
        watch = _Watch(process.pid, started + limit, whole)
        try:
            _, waited, usage = os.wait4(process.pid, 0)
            seconds, cpu_seconds = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
            status = process.returncode = os.waitstatus_to_exitcode(waited)
        finally:
            watch.end()
        out.seek(0)
        err.seek(0)
        return Finished(seconds, cpu_seconds, watch.peak_kib / 1024, status, watch.stopped, out.read(), err.read())


class _Watch:
    """A thread that watches limit and memory of a process, so that waiting for its end stays exact."""

    def __init__(self, pid: int, deadline: float, whole: bool) -> None:
        self.peak_kib = 0
        self.stopped = False
        self._pid, self._deadline, self._whole = pid, deadline, whole
        self._own = _read(PROC / "self" / "cmdline")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Ends the watch and any process left behind. Call it on every way out."""
        self._over.set()
        self._thread.join()
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)

    def _look(self) -> None:
        pause = FIRST_POLL
        while not self._over.wait(pause):
            pause = min(pause * POLL_GROWTH, LAST_POLL)
            self.peak_kib = max(self.peak_kib, sum(map(self._held_kib, self._pids())))
            if time.perf_counter() > self._deadline and not self.stopped:
                self.stopped = True
                with suppress(ProcessLookupError):
                    os.killpg(self._pid, signal.SIGKILL)

    def _pids(self) -> Iterator[int]:
        yield from [self._pid] if self._whole else []
        yield from _descendants(self._pid)

    def _held_kib(self, pid: int) -> int:
        if _read(PROC / str(pid) / "cmdline") == self._own:
            return 0  # just forked: it still shows the memory of this process
        lines = _read(PROC / str(pid) / "status").splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _descendants(pid: int) -> Iterator[int]:
    try:
        tasks = list((PROC / str(pid) / "task").iterdir())
    except OSError:  # it ended meanwhile
        return
    for task in tasks:
        for child in map(int, _read(task / "children").split()):
            yield child
            yield from _descendants(child)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # it ended meanwhile
        return ""
