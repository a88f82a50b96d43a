from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from service import worker
from service.jobs.supervisor import FIRST_DELAY, MARGIN_SECONDS, MAX_DELAY, WorkerSupervisor
from service.settings import Settings


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come"
        time.sleep(0.01)


@contextmanager
def supervised(
    data: Path,
    program: str,
    receive: Callable[[Iterable[str]], object] = list,
    *,
    first_delay: float = FIRST_DELAY,
    margin_seconds: float = MARGIN_SECONDS,
    **settings: Any,
) -> Iterator[WorkerSupervisor]:
    """A supervisor whose worker runs ``program``, a few lines of Python, with the data folder ``data``."""
    text = f"import os, sys, time; from pathlib import Path; os.chdir({str(data)!r}); {program}"
    chosen = Settings(data=data, drain_seconds=5, **settings)
    supervised = WorkerSupervisor(
        chosen, receive, (sys.executable, "-c", text), first_delay=first_delay, margin_seconds=margin_seconds
    )
    supervised.start()
    try:
        yield supervised
    finally:
        supervised.stop()


def test_dying_worker_is_restarted_after_growing_delays(tmp_path: Path) -> None:
    with supervised(tmp_path, "print(time.time(), file=open('starts', 'a')); sys.exit(3)", first_delay=0.05):
        wait_for(lambda: (tmp_path / "starts").exists() and len((tmp_path / "starts").read_text().split()) >= 4)
    starts = [float(line) for line in (tmp_path / "starts").read_text().split()]
    pauses = [after - before for before, after in pairwise(starts)]
    assert [pause >= 0.05 * 2**i for i, pause in enumerate(pauses[:3])] == [True] * 3
    assert MAX_DELAY > 10


def test_worker_receives_the_settings_of_the_service(tmp_path: Path) -> None:
    settings = {"api_keys": f"ann:{'a' * 64}", "models": "b=models:/b/1", "database_url": "postgresql://u:p@h/d"}
    program = "Path('told').write_text(sys.stdin.readline()); time.sleep(60)"
    with supervised(tmp_path, program, **settings) as child:
        wait_for(lambda: (tmp_path / "told").exists() and (tmp_path / "told").read_text().endswith("\n"))
        assert child.pid is not None
        command = Path(f"/proc/{child.pid}/cmdline").read_text()
    assert "u:p@h" not in command  # which everyone on the host may read
    assert Settings(**json.loads((tmp_path / "told").read_text())) == Settings(
        data=tmp_path, drain_seconds=5, **settings
    )
    assert child.pid is None


def test_measurements_of_a_worker_are_received_as_they_come(tmp_path: Path) -> None:
    told: list[str] = []

    def receive(lines: Iterable[str]) -> None:
        told.extend(lines)

    program = "os.write(int(sys.argv[-1]), b'one\\ntwo\\n'); Path('up').touch(); time.sleep(60)"
    with supervised(tmp_path, program, receive) as child:
        wait_for((tmp_path / "up").exists)
        child.stop()
        wait_for(lambda: told == ["one\n", "two\n"])


def test_worker_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    program = "import signal; signal.signal(15, signal.SIG_IGN); Path('up').touch(); time.sleep(60)"
    with supervised(tmp_path, program, margin_seconds=-4.8) as child:
        wait_for((tmp_path / "up").exists)
        started = time.monotonic()
        child.stop()
        assert child.pid is None
        assert time.monotonic() - started < 5


def test_stopped_supervisor_starts_no_worker(tmp_path: Path) -> None:
    never = WorkerSupervisor(Settings(data=tmp_path), list, (sys.executable, "-c", "raise SystemExit"))
    never.stop()
    never.start()
    never.stop()
    assert never.pid is None


def test_missing_worker_program_does_not_raise(tmp_path: Path) -> None:
    with_none = WorkerSupervisor(Settings(data=tmp_path), list, (str(tmp_path / "none"),))
    with_none.start()
    with_none.stop()


def test_one_embedded_worker_at_a_time_uses_a_data_folder(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from service.worker import alone\n"
    code += "print('up', flush=True)\nwith alone(Path(sys.argv[1])): print('in', flush=True)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        with worker.alone(tmp_path):
            assert other.stdout.readline() == "up\n"
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(1)
        assert other.stdout.readline() == "in\n"


def test_worker_with_invalid_settings_reports_them_and_exits(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service.worker", "--embedded", "1"]
    told = json.dumps({"data": str(tmp_path), "database_url": "sqlite:////proc/none/jobs.sqlite"})
    ended = subprocess.run(command, input=told + "\n", capture_output=True, text=True, timeout=60)
    # Its parent's end, which the closed pipe tells, may come first.
    assert ended.returncode in (3, -9)
    if ended.returncode == 3:
        assert "error [jobs_unreachable]" in ended.stderr
        assert "Traceback" not in ended.stderr
