"""How a program ends: errors in their own words, interruptions quietly, neither with a traceback."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from vcfbert.artifacts import DISK_FULL, disk_full
from vcfbert.errors import VcfbertError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """Raised by a signal wherever the program is, so that temporary files are removed on the way out.

    Not an Exception, and not KeyboardInterrupt either, which argument parsers answer with words of their own.
    """

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number  # as a shell reports a process that the signal ended
        super().__init__(number)


@contextmanager
def clean_exit(tell: Callable[[str], None]) -> Iterator[None]:
    """Ends the process with an error's exit code after telling its text; with 130 or 143 after SIGINT or SIGTERM.

    Anything else that is raised is a bug and keeps its traceback.
    """
    before = {number: signal.signal(number, _interrupt) for number in SIGNALS}
    try:
        yield
    except VcfbertError as error:
        tell(f"error [{error.code}] {error}")
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        full = disk_full(error, error.filename)
        tell(f"error [{full.code}] {full}")
        sys.exit(full.exit_code)
    except Interrupted as interrupted:
        tell("interrupted")
        sys.exit(interrupted.exit_code)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    for each in SIGNALS:  # whoever asks twice does not want to wait
        signal.signal(each, signal.SIG_DFL)
    raise Interrupted(number)
