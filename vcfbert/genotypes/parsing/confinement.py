"""Limits of a parser process: host memory, CPU time, files, and no privileges."""

from __future__ import annotations

import ctypes
import resource
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vcfbert.genotypes.parsing import landlock

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_INDEXES: Final = (".csi", ".tbi")
_MAX_FILES: Final = 64  # open at once: the file, its index, and those of the two parsers


@dataclass(frozen=True)
class ParserLimits:
    """What one parser process may use; None is no limit.

    ``memory_bytes``: host memory that it allocates for the file. ``cpu_seconds``: of all its threads. ``seconds``: that
    its receiver waits for it in total.
    """

    memory_bytes: int | None = None
    cpu_seconds: int | None = None
    seconds: float | None = None


def prepared_rules() -> landlock.Rules | None:
    """What ``confine`` needs for any file. Made before the file is known, it saves time then."""
    with suppress(OSError):  # ``ParserServer`` logs it
        return landlock.Rules()
    return None


def confine(limits: ParserLimits, paths: Sequence[Path], rules: landlock.Rules | None = None) -> None:
    """Limits this process for good. Where the kernel has Landlock, it reads ``paths``, an index and code alone.

    The index is that of the first path.

    ``rules``: of ``prepared_rules``, which are made here if they are None.
    """
    landlock.libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    memory = None if limits.memory_bytes is None else _data_bytes() + limits.memory_bytes
    rules = rules or prepared_rules()
    if rules is not None:
        for one in (*paths, *(Path(f"{paths[0]}{ending}") for ending in _INDEXES)):
            rules.allow(one)
        with suppress(OSError):
            rules.restrict()
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, _MAX_FILES)
    if memory is not None:
        _limit(resource.RLIMIT_DATA, memory)
    if limits.cpu_seconds is not None:
        _limit(resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1)  # SIGXCPU, then SIGKILL


def die_with_parent() -> None:
    """Lets the kernel kill this process when the thread that forked it ends."""
    landlock.libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def exit_without_handlers() -> None:
    """Makes C's exit(), which htslib calls at some records, end this process at once.

    The handlers that libraries registered before a fork are skipped. Torch's waits for threads that a forked process
    does not have.
    """
    libc = landlock.libc()
    with suppress(AttributeError):  # a C library without on_exit
        # The handler that was registered last runs first. It gets the exit code, and _exit() needs no more.
        libc.on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)


def _limit(kind: int, soft: int, hard: int | None = None) -> None:
    """Lowers a soft and a hard limit. A hard limit that is lower already stays."""
    now = resource.getrlimit(kind)[1]
    hard = soft if hard is None else hard
    hard = hard if now == resource.RLIM_INFINITY else min(hard, now)
    resource.setrlimit(kind, (min(soft, hard), hard))


def _data_bytes() -> int:
    """Bytes that count towards RLIMIT_DATA so far."""
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    return pages * resource.getpagesize()
