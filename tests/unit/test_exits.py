from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from contextlib import suppress

import pytest

from vcfbert.errors import DiskFullError, InputError, ResourceError, VcfbertError
from vcfbert.exits import Interrupted, clean_exit


def ended(body: Callable[[], None]) -> tuple[int | str | None, list[str]]:
    said: list[str] = []
    with pytest.raises(SystemExit) as stop, clean_exit(said.append):
        body()
    return stop.value.code, said


def raiser(error: BaseException) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (VcfbertError("a", "b"), 1),
        (InputError("a", "b"), 2),
        (ResourceError("a", "b"), 3),
        (DiskFullError("a", "b"), 2),
    ],
)
def test_error_exits_with_its_code(error: VcfbertError, code: int) -> None:
    assert ended(raiser(error)) == (code, ["error [a] b"])


def test_error_text_has_what_where_and_hint() -> None:
    error = InputError("bad", "it is [odd]", where="file, record 20:5", hint="mend it")
    assert ended(raiser(error))[1] == ["error [bad] file, record 20:5: it is [odd]\n  hint: mend it"]


def test_full_disk_exits_with_2() -> None:
    code, said = ended(raiser(OSError(errno.ENOSPC, "No space left on device", "/data/x")))
    assert code == 2
    assert said[0].startswith("error [disk_full] /data/x: ")


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), ZeroDivisionError()])
def test_unexpected_exception_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)), clean_exit(lambda _: None):
        raise error


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_runs_finally_blocks_and_exits_with_its_code(number: int, code: int) -> None:
    closed = []

    def body() -> None:
        try:
            os.kill(os.getpid(), number)
            pytest.fail("went on after the signal")
        except Exception:
            pytest.fail("taken for an ordinary error")
        finally:
            # From here on a second signal ends the process at once.
            closed.append(signal.getsignal(number))

    before = signal.getsignal(number)
    assert ended(body) == (code, ["interrupted"])
    assert closed == [signal.SIG_DFL]
    assert signal.getsignal(number) is before


def test_error_that_hides_the_signal_exits_with_the_signals_code() -> None:
    def body() -> None:
        with suppress(BaseException):
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("went on after the signal")
        raise AttributeError("module 'numpy' has no attribute 'matrix'")

    assert ended(body) == (130, ["interrupted"])


def test_interrupted_is_not_an_exception() -> None:
    assert not issubclass(Interrupted, Exception)
