"""Tasks for tests of pools; a worker finds them here by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from vcfbert.artifacts import write_text
from vcfbert.errors import InputError


def write(path: Path, text: object) -> None:
    write_text(path, str(text))


def die_once(path: Path, mark: Path) -> None:
    """Kills its worker the first time."""
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, "risen")


def die(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang_once(path: Path, mark: Path) -> None:
    """Takes forever the first time."""
    if not mark.exists():
        mark.touch()
        time.sleep(600)
    write(path, "second")


def refuse(path: Path) -> None:
    raise InputError("refused", "this cannot be", where=str(path), hint="try another")
