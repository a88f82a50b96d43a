"""Lets the kernel refuse a process all files but those that it must read, TCP, and signals to others.

Landlock (https://docs.kernel.org/userspace-api/landlock.html) is in Linux from 5.13 on, if it is switched on. Its three
system calls have the same numbers on all processors. There is no package for it that is kept well enough.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import sys
import sysconfig
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG: Final = 1
_RULE_PATH_BENEATH: Final = 1
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
# Rights over files that exist in each version of the interface: 13, then renaming across folders, truncation, and
# commands to devices.
_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP: Final = 0b11  # bind, connect; from version 4 on
_SCOPED: Final = 0b11  # abstract Unix sockets, signals; from version 6 on
_MIN_DESCRIPTOR: Final = 16  # of rules: a parser process gives the lowest ones to others
_CODE: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


@cache
def libc() -> ctypes.CDLL:
    """The C library. To open it takes longer than most calls of it."""
    return ctypes.CDLL(None, use_errno=True)


@cache
def code_folders() -> tuple[Path, ...]:
    """Where Python finds what it imports. A process that forks parsers asks once, on behalf of them."""
    return tuple(map(Path, {*_CODE, *sysconfig.get_paths().values(), *sys.path} - {"", os.getcwd()}))


def version() -> int:
    """Version of the kernel's interface. Raises OSError if there is none."""
    return _call(_CREATE_RULESET, None, 0, _VERSION_FLAG)


class Rules:
    """What this process may open once it is restricted: what Python imports, and what ``allow`` names.

    Raises OSError if the kernel has no Landlock.
    """

    def __init__(self) -> None:
        known = version()
        rules = _Ruleset(
            (1 << _FILE_RIGHTS[min(known, 5)]) - 1, _TCP if known >= 4 else 0, _SCOPED if known >= 6 else 0
        )
        size = 8 if known < 4 else 16 if known < 6 else 24
        made = _call(_CREATE_RULESET, ctypes.byref(rules), size, 0)
        self._ruleset = fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, _MIN_DESCRIPTOR)
        os.close(made)
        for folder in code_folders():
            self._allow(folder, _READ_FILE | _READ_DIR | _EXECUTE)

    def allow(self, path: Path) -> None:
        """Allows to read a file or folder, if it exists."""
        self._allow(path, _READ_FILE | _READ_DIR)

    def restrict(self) -> None:
        """Restricts this thread, and the threads and processes that it will start, for good.

        It needs PR_SET_NO_NEW_PRIVS. Raises OSError if the kernel cannot do it.
        """
        try:
            _call(_RESTRICT_SELF, self._ruleset, 0)
        finally:
            os.close(self._ruleset)

    def _allow(self, path: Path, rights: int) -> None:
        with suppress(FileNotFoundError, PermissionError):
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
                rule = _PathBeneath(rights if is_folder else rights & ~_READ_DIR, handle)
                _call(_ADD_RULE, self._ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
            finally:
                os.close(handle)


def _call(number: int, *arguments: object) -> int:
    result = int(libc().syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
