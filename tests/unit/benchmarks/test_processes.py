"""Processes are measured and stopped with all that they started."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks._processes import Finished, run_measured

# Each test starts and watches processes.
pytestmark = pytest.mark.integration

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
# A process that holds 100 MB for half a second; and one that only starts it, waits, and holds little itself.
HOLDER = "import time; held = bytearray(100 << 20); time.sleep(0.5)"
STARTER = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLDER!r}])"


def python(code: str, *, limit: float = 60, whole: bool = True, **environment: str) -> Finished:
    return run_measured([sys.executable, "-c", code], limit=limit, environment=environment, whole=whole)


def test_says_how_it_ended_and_what_was_said() -> None:
    done = python("import os, sys; print(os.environ['WORD']); print('no', file=sys.stderr); sys.exit(3)", WORD="yes")
    assert (done.status, done.stopped, done.out, done.err) == (3, False, "yes\n", "no\n")


def test_time_is_that_of_the_process() -> None:
    done = python("import time; time.sleep(0.3)")
    assert 0.3 <= done.seconds < 5
    assert done.cpu_seconds < 0.3


def test_cpu_time_is_that_of_the_process_and_its_children() -> None:
    busy = "import time\nwhile time.process_time() < 0.4: pass"
    alone = python(busy).cpu_seconds
    both = python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])").cpu_seconds
    assert 0.4 <= alone < 2
    assert 0.4 < both < 2


@linux
def test_memory_is_that_of_the_process_and_its_children() -> None:
    assert 100 < python(HOLDER).peak_mib < 200
    together = python(STARTER).peak_mib
    child = python(STARTER, whole=False).peak_mib
    assert 100 < child < together
    assert python("import time; time.sleep(0.2)", whole=False).peak_mib == 0


def test_the_limit_ends_the_process_and_its_children(tmp_path: Path) -> None:
    said = tmp_path / "pid"
    sleeper = f"import os, time; open({str(said)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    started = time.perf_counter()
    done = python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sleeper!r}])", limit=2)
    assert done.stopped
    assert done.status != 0
    assert time.perf_counter() - started < 20
    while alive(int(said.read_text())):  # it was told to end; on a busy machine that takes a moment
        assert time.perf_counter() - started < 20
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether it still runs; one that ended and that nobody has waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] in "ZX")
