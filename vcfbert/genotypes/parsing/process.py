"""Starts parser processes and receives what they read."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from vcfbert.errors import InputError, ResourceError
from vcfbert.genotypes.formats.target_file import companions
from vcfbert.genotypes.parsing import landlock
from vcfbert.genotypes.parsing.child import (
    BROKEN,
    DONE,
    LENGTH,
    NO_MEMORY,
    REFUSED,
    Logged,
    Outcome,
    Request,
    Work,
    run,
)
from vcfbert.genotypes.parsing.confinement import ParserLimits
from vcfbert.genotypes.parsing.messages import MessageError, Record, read_message
from vcfbert.genotypes.parsing.server import STATUS, command
from vcfbert.genotypes.parsing.trace import Trace, new_memory
from vcfbert.genotypes.record_faults import refuse_malformed
from vcfbert.genotypes.vcf_file import refuse_pipe
from vcfbert.kernels import are_compiled

log = logging.getLogger(__name__)

_TICK: Final = 0.1  # seconds between two looks at the time and at the caller's wish to go on
_SOCKET_BYTES: Final = 1 << 20  # that the kernel holds between the two processes, as far as it lets us
_END_SECONDS: Final = 5.0  # in which a killed process must be gone
_MAX_LINES: Final = 100  # of the log, from one parser
_ERROR_BYTES: Final = 4096  # of a dead process's standard error, for the log

_START: Final = "vcfbert.genotypes.parser_start"  # a server imports it by name, because it imports this module

Cancelled = Callable[[], None]


class Leash(Protocol):
    """The hold on a parser process."""

    def kill(self) -> int | None:
        """Ends the process if it has not ended; returns its status as ``os.waitpid`` does, None if unknown."""

    def release(self) -> None:
        """Ends a process that has nothing more to do. Does not wait for it."""


class Parsers(Protocol):
    """Starts parser processes. Threads may share it."""

    def open(self, path: Path) -> Parser:
        """A process for the file ``path``. Raises ResourceError('parser_unavailable') if none can be started."""
        ...


def in_parser(
    work: Work,
    path: Path,
    *args: Any,
    kinds: tuple[Record, ...],
    parser: Parser | None = None,
    cancelled: Cancelled | None = None,
) -> Iterator[Any]:
    """``Parser.run`` in the ``parser`` of the file ``path``, or in one of its own from ``parsers_here``.

    Raises InputError('not_a_file') for a pipe: a parser process does not have this process's descriptors.
    """
    if parser is not None:
        yield from parser.run(work, *args, kinds=kinds, cancelled=cancelled)
        return
    refuse_pipe(path)
    with parsers_here().open(path) as own:
        yield from own.run(work, *args, kinds=kinds, cancelled=cancelled)


@cache
def _forked() -> ForkedParsers:
    return ForkedParsers()


@cache
def _served() -> ParserServer:
    return ParserServer()


def parsers_here() -> Parsers:
    """Without limits, for files of this process's user: forked from it, or by a server if this is not its main thread.

    A process with several threads should not fork. A main thread that only draws its progress in another one may:
    parser processes use nothing that other threads lock.
    """
    return _forked() if threading.current_thread() is threading.main_thread() else _served()


class Parser:
    """A process that parses one file. A context manager that ends it. Not for several threads at once."""

    def __init__(
        self,
        path: Path,
        limits: ParserLimits,
        connection: socket.socket,
        errors: int,
        memory: int,
        leash: Leash,
        others: Parsers,
    ) -> None:
        """``others`` starts the process that reads the file's text if this one dies of a record."""
        self.path = path
        self._others = others
        self._limits = limits
        self._connection = connection
        self._errors = errors
        self._trace = Trace(memory)
        self._leash = leash
        self._waited = 0.0  # seconds
        self._n_lines = 0
        self._over = False

    def __enter__(self) -> Parser:
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._connection.close()
        os.close(self._errors)
        self._leash.release()

    def run(
        self, work: Work, *args: Any, kinds: tuple[Record, ...], cancelled: Cancelled | None = None
    ) -> Iterator[Any]:
        """Runs ``work(path, trace, *args)``, which parses the file, in the process and gives what it gives.

        ``work``: a function of a module, which opens the file, notes each record in ``trace``, and gives values of the
        classes of ``kinds``. ``cancelled`` is called at least every 0.1 seconds while the process reads; an exception
        that it raises ends the process, as closing the iterator does.

        Raises what ``work`` raises of VcfbertError; InputError('file_unreadable') if the process dies or exceeds a
        limit, and from then on.
        """
        if self._over:
            raise self._unreadable("its parser has ended")
        request = Request(work, self.path, args, kinds, self._limits, companions(self.path))
        self._over = True
        self._send(pickle.dumps(request))
        while not isinstance(value := self._receive(request, cancelled), Outcome):
            yield value
        self._over = False
        if value.state != DONE:
            raise self._failed(value)

    def _send(self, data: bytes) -> None:
        self._connection.settimeout(None)
        with suppress(BrokenPipeError, ConnectionResetError):  # the process died: receiving tells how
            self._connection.sendall(LENGTH.pack(len(data)) + data)
        self._connection.settimeout(_TICK)

    def _receive(self, request: Request, cancelled: Cancelled | None) -> Any:
        started = time.monotonic()

        def check() -> None:
            if cancelled is not None:
                cancelled()
            limit = self._limits.seconds
            if limit is not None and self._waited + time.monotonic() - started > limit:
                self._leash.kill()
                raise self._unreadable(f"it takes longer than {limit:g} seconds")

        def read(n_bytes: int) -> memoryview:
            return self._read(n_bytes, check)

        try:
            check()
            while isinstance(value := read_message(read, request.answers), Logged):
                self._pass_on(value)
        except (EOFError, ConnectionError):
            raise self._died(self._leash.kill(), request.work) from None
        except MessageError as error:
            self._leash.kill()
            raise self._unreadable(error.what) from None
        self._waited += time.monotonic() - started
        return value

    def _read(self, n_bytes: int, check: Cancelled) -> memoryview:
        """The next bytes. Raises EOFError at the end of the process."""
        data = np.empty(n_bytes, np.uint8).data
        rest = data
        while len(rest):
            try:
                count = self._connection.recv_into(rest)
            except TimeoutError:
                check()
                continue
            if not count:
                raise EOFError
            rest = rest[count:]
        return data

    def _pass_on(self, line: Logged) -> None:
        self._n_lines += 1
        if self._n_lines <= _MAX_LINES and line.name.startswith("vcfbert."):
            logging.getLogger(line.name).log(line.level, "%s", line.text)

    def _failed(self, outcome: Outcome) -> Exception:
        if outcome.state == REFUSED and outcome.error is not None:
            return outcome.error
        if outcome.state == NO_MEMORY:
            return self._unreadable(self._too_much_memory())
        if outcome.state == BROKEN:
            log.error("the parser of %s failed\n%s", self.path, outcome.text)
        return self._unreadable("its parser failed")

    def _died(self, status: int | None, work: Work) -> InputError:
        with suppress(BlockingIOError):
            log.info("the parser of %s died (%s): %r", self.path, status, os.read(self._errors, _ERROR_BYTES))
        code = None if status is None else os.waitstatus_to_exitcode(status)
        if code is None:
            return self._unreadable("its parser died")
        if code >= 0:
            return self._malformed(work) or self._unreadable(f"its parser ended with code {code}")
        if -code == signal.SIGXCPU:
            return self._unreadable(f"it takes more than {self._limits.cpu_seconds} seconds of CPU time")
        name = signal.Signals(-code).name
        found = None if -code == signal.SIGKILL else self._malformed(work)
        return found or self._unreadable(f"its parser died of {name}")

    def _malformed(self, work: Work) -> InputError | None:
        """The error of the line of which the process died, if its text shows one."""
        if work is refuse_malformed:  # which is what reads the text
            return None
        try:
            with self._others.open(self.path) as other:
                for _ in other.run(refuse_malformed, self._trace.count, kinds=()):
                    pass
        except InputError as error:
            return error if error.code == "vcf_invalid" else None
        except ResourceError:
            return None
        return None

    def _too_much_memory(self) -> str:
        limit = self._limits.memory_bytes
        return "there is too little host memory" if limit is None else f"it takes more than {limit // 1_000_000} MB"

    def _unreadable(self, why: str) -> InputError:
        return InputError(
            "file_unreadable",
            f"the file cannot be read {self._trace}: {why}",
            where=str(self.path),
            hint="`bcftools view` on the file may show what is wrong there",
        )


class _Ends:
    """The descriptors of one parser process, on both sides."""

    def __init__(self) -> None:
        self.connection, self.theirs = socket.socketpair()
        for end, option in ((self.connection, socket.SO_RCVBUF), (self.theirs, socket.SO_SNDBUF)):
            end.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BYTES)
        self.errors, self.their_errors = os.pipe()
        os.set_blocking(self.errors, False)
        os.set_blocking(self.their_errors, False)  # what finds no room is dropped
        self.memory = new_memory()

    def parser(self, path: Path, limits: ParserLimits, leash: Leash, parsers: Parsers) -> Parser:
        """Closes the other side's ends."""
        self.theirs.close()
        os.close(self.their_errors)
        parser = Parser(path, limits, self.connection, self.errors, self.memory, leash, parsers)
        os.close(self.memory)
        return parser

    def close(self) -> None:
        """Closes everything, where no process could be started."""
        self.connection.close()
        self.theirs.close()
        for descriptor in (self.errors, self.their_errors, self.memory):
            os.close(descriptor)


class ForkedParsers:
    """``Parsers`` forked from this process. A parser ends with the thread that started it."""

    def __init__(self, limits: ParserLimits = ParserLimits()) -> None:
        self._limits = limits
        self._ending: list[int] = []  # processes that are about to end

    def open(self, path: Path) -> Parser:
        self._ending = [pid for pid in self._ending if _ended(pid, os.WNOHANG) == 0]
        are_compiled()  # loads the kernels: the parser may not be allowed to
        ends = _Ends()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of threads; see ``parsers_here``
                pid = os.fork()
        except OSError as error:
            ends.close()
            raise _unavailable(error) from error
        if not pid:
            run(ends.theirs.fileno(), ends.their_errors, ends.memory)
        return ends.parser(path, self._limits, _Forked(pid, self._ending), self)


class _Forked:
    """``Leash`` of a process that this one forked."""

    def __init__(self, pid: int, ending: list[int]) -> None:
        self._pid: int | None = pid
        self._ending = ending

    def kill(self) -> int | None:
        if self._pid is None:
            return None
        pid, self._pid = self._pid, None
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return _ended(pid, 0)

    def release(self) -> None:
        if self._pid is not None:
            pid, self._pid = self._pid, None
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            if _ended(pid, os.WNOHANG) == 0:
                self._ending.append(pid)


def _ended(pid: int, options: int) -> int | None:
    """The status of an ended process; None if something else has asked for it before. 0 also means: not yet ended."""
    try:
        return os.waitpid(pid, options)[1]
    except ChildProcessError:
        return None


class ParserServer:
    """``Parsers`` that a process of its own forks, ``server.py``. It starts when first needed, and again if it died.

    It does not inherit this process's environment, so that no parser finds secrets there.
    """

    def __init__(self, limits: ParserLimits = ParserLimits()) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._close: Callable[[], object] | None = None

    def warm_up(self) -> None:
        """Starts the server. It answers once it has imported what parsers need, in a second or less."""
        try:
            landlock.version()
        except OSError as error:
            log.warning("parsers are not kept from other files: the kernel has no Landlock (%s)", error.strerror)
        with self._lock:
            self._connected()

    def close(self) -> None:
        """Ends the server and all of its parsers."""
        with self._lock:
            if self._close is not None:
                self._close()
            self._control = self._close = None

    def open(self, path: Path) -> Parser:
        ends = _Ends()
        leash, their_leash = socket.socketpair()
        try:
            with their_leash:
                self._send([ends.theirs.fileno(), ends.their_errors, ends.memory, their_leash.fileno()])
        except OSError as error:
            leash.close()
            ends.close()
            raise _unavailable(error) from error
        return ends.parser(path, self._limits, _Served(leash, self), self)

    def _send(self, descriptors: list[int]) -> None:
        with self._lock:
            try:
                socket.send_fds(self._connected(), [b"+"], descriptors)
            except (BrokenPipeError, ConnectionResetError):  # the server has died
                if self._close is not None:
                    self._close()
                self._control = None
                socket.send_fds(self._connected(), [b"+"], descriptors)

    def _connected(self) -> socket.socket:
        if self._control is None:
            self._control, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, *command(theirs.fileno(), sys.path, _START)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env={"OPENBLAS_NUM_THREADS": "1"},  # no threads where it forks
                    start_new_session=True,  # Ctrl-C does not reach it: it ends with this process
                )
            self._close = weakref.finalize(self, _end_server, self._control, process)
        return self._control


def _end_server(control: socket.socket, process: subprocess.Popen[bytes]) -> None:
    control.close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class _Served:
    """``Leash`` of a process that the server forked."""

    def __init__(self, socket_: socket.socket, server: ParserServer) -> None:
        self._socket = socket_
        self._server = server  # which ends when nothing names it

    def kill(self) -> int | None:
        with self._socket as leash, suppress(OSError):
            leash.settimeout(_END_SECONDS)
            leash.shutdown(socket.SHUT_WR)
            data = leash.recv(STATUS.size)
            if len(data) == STATUS.size:
                return int(STATUS.unpack(data)[0])
        return None

    def release(self) -> None:
        self._socket.close()


def _unavailable(error: OSError) -> ResourceError:
    return ResourceError(
        "parser_unavailable",
        f"no process could be started to read the file ({error.strerror})",
        hint="free host memory, or raise the limit of processes",
    )
