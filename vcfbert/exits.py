"""How a program ends: an error with its text and exit code, an interruption with its signal's code, no traceback."""

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
    """Raised by SIGINT and SIGTERM, so that ``finally`` blocks remove temporary files.

    It is not an Exception, so that no handler of those stops it. It is not a KeyboardInterrupt, because argument
    parsers replace that one with their own message.
    """

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number  # as a shell reports a process that the signal ended
        super().__init__(number)


@contextmanager
def clean_exit(tell: Callable[[str], None]) -> Iterator[None]:
    """Passes the text of an error to ``tell`` and exits with its exit code; with 130 or 143 after SIGINT or SIGTERM.

    Any other exception is a bug and keeps its traceback.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for each in SIGNALS:  # a second signal ends the process at once
            signal.signal(each, signal.SIG_DFL)
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield
    except (Exception, Interrupted) as error:
        # torch drops any exception raised while it imports numpy. A later one, of the half-imported module, then ends
        # the command.
        if received:
            tell("interrupted")
            sys.exit(Interrupted(received[0]).exit_code)
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            error = disk_full(error, error.filename)
        if not isinstance(error, VcfbertError):
            raise
        tell(f"error [{error.code}] {error}")
        sys.exit(error.exit_code)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
