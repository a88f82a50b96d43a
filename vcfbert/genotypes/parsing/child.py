"""What runs in a parser process: it reads one file and sends what it reads."""

from __future__ import annotations

import faulthandler
import fcntl
import gc
import logging
import os
import pickle
import signal
import socket
import struct
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from vcfbert.errors import VcfbertError
from vcfbert.genotypes.parsing.confinement import (
    ParserLimits,
    confine,
    die_with_parent,
    exit_without_handlers,
    prepared_rules,
)
from vcfbert.genotypes.parsing.landlock import Rules
from vcfbert.genotypes.parsing.messages import ERROR, NUMBER, TEXT, Record, packed_message
from vcfbert.genotypes.parsing.trace import Trace

# Reads a file in a parser process: takes the path, where to note each record, and further arguments, and gives values
# of the classes of ``Request.kinds``.
Work = Callable[..., Iterator[Any]]

LENGTH: Final = struct.Struct("<Q")  # of a pickled request
_MAX_TRACEBACK: Final = 4000
_ERRORS, _MEMORY, _CONNECTION = 2, 3, 4  # descriptors in a parser process
_N_DESCRIPTORS: Final = 3


@dataclass(frozen=True)
class Request:
    """Asks for ``work(path, trace, *args)``. It goes to a parser process, never comes from one: it may be pickled.

    The limits of a process's first request hold, and its ``others``: the files that ``path`` is read with.
    """

    work: Work
    path: Path
    args: tuple[Any, ...]
    kinds: tuple[Record, ...]
    limits: ParserLimits
    others: tuple[Path, ...] = ()

    @property
    def answers(self) -> tuple[Record, ...]:
        """The kinds of all messages."""
        return (*self.kinds, OUTCOME, LOGGED)


class Outcome(NamedTuple):
    """The last message of a request.

    ``state``: one of the constants below. ``text``: the traceback of a fault in our own code.
    """

    state: str
    error: VcfbertError | None = None
    text: str = ""


class Logged(NamedTuple):
    """A line of the log."""

    name: str
    level: int
    text: str


DONE, REFUSED, NO_MEMORY, BROKEN = "done", "refused", "no_memory", "broken"
OUTCOME: Final = Record(Outcome, state=TEXT, error=ERROR, text=TEXT)
LOGGED: Final = Record(Logged, name=TEXT, level=NUMBER, text=TEXT)


def run(connection: int, errors: int, memory: int) -> NoReturn:
    """Serves requests about one file in a process that was forked for it, and ends the process.

    ``connection``, ``errors`` and ``memory``: descriptors of the socket to the receiver, of the pipe that becomes
    standard error, and of the trace.
    """
    try:
        _leave_parent(connection, errors, memory)
        _run(connection, errors, memory)
    finally:
        os._exit(1)


def _run(connection: int, errors: int, memory: int, *, rules: Rules | None = None) -> NoReturn:
    code = 1
    try:
        _place({_ERRORS: errors, _MEMORY: memory, _CONNECTION: connection})
        receiver, trace = socket.socket(fileno=_CONNECTION), Trace(_MEMORY)
        os.close(_MEMORY)
        logging.root.handlers.clear()
        confined = False
        while (request := _read_request(receiver)) is not None:
            if not confined:
                confine(request.limits, (request.path, *request.others), rules)
                confined = True
            _serve(receiver, request, trace)
        code = 0
    except (BrokenPipeError, ConnectionResetError):  # the receiver has left
        pass
    except BaseException:
        os.write(_ERRORS, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(code)


def run_when_asked(channel: int, warm_up: Callable[[], None] | None) -> NoReturn:
    """``run``, of descriptors that will arrive on the socket ``channel``, in a process that was forked before."""
    try:
        _leave_parent(channel)
        if warm_up is not None:
            warm_up()
        rules = prepared_rules()
        _, descriptors, _, _ = socket.recv_fds(socket.socket(fileno=channel), 1, _N_DESCRIPTORS)
        if descriptors:
            _run(*descriptors, rules=rules)
    finally:
        os._exit(1)


def _leave_parent(*kept: int) -> None:
    """Keeps nothing of the parent but descriptors, and none of its ways to handle signals."""
    parent = os.getppid()
    die_with_parent()
    if os.getppid() != parent:  # it died before the kernel knew
        os._exit(1)
    exit_without_handlers()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the receiver ends this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.disable()
    gc.freeze()  # what the parent opened is never closed here: its numbers are other files by then
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > _ERRORS and fd not in kept:
            with suppress(OSError):  # that of the list itself
                os.close(fd)


def _place(places: Mapping[int, int]) -> None:
    """Moves each descriptor to its place, and makes standard input and output empty."""
    moved = {place: fcntl.fcntl(fd, fcntl.F_DUPFD, max(places) + 1) for place, fd in places.items()}
    for fd in places.values():
        os.close(fd)
    for place, fd in moved.items():
        os.dup2(fd, place)
        os.close(fd)
    nothing = os.open(os.devnull, os.O_RDWR)
    for place in (0, 1):
        os.dup2(nothing, place)
    os.close(nothing)


def _read_request(receiver: socket.socket) -> Request | None:
    """The next request; None if the receiver needs no more."""
    head = _read(receiver, LENGTH.size)
    if not head:
        return None
    request = pickle.loads(_read(receiver, *LENGTH.unpack(head)))
    assert isinstance(request, Request)
    return request


def _read(receiver: socket.socket, n_bytes: int) -> bytes:
    data = bytearray()
    while len(data) < n_bytes and (piece := receiver.recv(n_bytes - len(data))):
        data += piece
    return bytes(data)


def _serve(receiver: socket.socket, request: Request, trace: Trace) -> None:
    def send(value: Any) -> None:
        for part in packed_message(value, request.answers):
            receiver.sendall(part)

    logging.root.handlers[:] = [_LogSender(send)]
    trace.restart()
    try:
        for value in request.work(request.path, trace, *request.args):
            send(value)
        outcome = Outcome(DONE)
    except VcfbertError as error:
        outcome = Outcome(REFUSED, error)
    except MemoryError:
        outcome = Outcome(NO_MEMORY)
    except Exception:
        outcome = Outcome(BROKEN, text=traceback.format_exc()[-_MAX_TRACEBACK:])
    send(outcome)


class _LogSender(logging.Handler):
    def __init__(self, send: Callable[[Logged], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send(Logged(record.name, record.levelno, record.getMessage()))
