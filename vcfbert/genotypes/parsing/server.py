"""Forks parser processes for a process with threads, which must not fork itself. It parses no file of others.

It starts with what parsers import, so that a parser takes milliseconds to start. Each message on its socket brings the
descriptors of one parser: connection, standard error, trace and leash. Through the leash it tells how the parser ended,
and when the other end of the leash closes, it kills the parser.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Final, NoReturn

from vcfbert.genotypes.parsing.child import run_when_asked
from vcfbert.genotypes.parsing.landlock import code_folders, libc

STATUS: Final = struct.Struct("<i")  # as ``os.waitpid`` gives it
N_DESCRIPTORS: Final = 4
_IDLE_SECONDS: Final = 0.02  # without a request, after which a spare process is forked for the next one


def main(descriptor: int, start: str) -> NoReturn:
    """Serves until the other end of the socket ``descriptor`` closes.

    ``start``: a module that imports what parsers need. Its function ``warm_up`` prepares this process, and each spare
    one, whose memory is shared until it is first written to.
    """
    module = import_module(start)
    code_folders(), libc()  # what each parser would look up
    module.warm_up()
    gc.collect()
    gc.freeze()
    server = _Server(socket.socket(fileno=descriptor), module.warm_up)
    try:
        server.serve()
    finally:
        server.kill_all()
        os._exit(0)


class _Server:
    def __init__(self, control: socket.socket, warm_up: Callable[[], None]) -> None:
        self._control = control
        self._warm_up = warm_up
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._spare: tuple[int, socket.socket] | None = None
        self._leashes: dict[int, tuple[socket.socket, int]] = {}  # of each parser: its leash and its pidfd

    def serve(self) -> None:
        while True:
            ready = self._selector.select(_IDLE_SECONDS if self._spare is None else None)
            if not ready:
                self._spare = self._forked(self._warm_up)
            for key, _ in ready:
                if key.fileobj is self._control:
                    if not self._begin():
                        return
                elif key.data not in self._leashes:  # reaped since
                    continue
                elif isinstance(key.fileobj, socket.socket):  # a leash has closed
                    self._selector.unregister(key.fileobj)
                    os.kill(key.data, signal.SIGKILL)
                else:
                    self._reap(key.data)

    def _forked(self, warm_up: Callable[[], None] | None = None) -> tuple[int, socket.socket]:
        """A process that waits for the descriptors of a parser, and the socket on which it waits."""
        mine, theirs = socket.socketpair()
        pid = os.fork()
        if not pid:
            run_when_asked(theirs.fileno(), warm_up)
        theirs.close()
        return pid, mine

    def _begin(self) -> bool:
        """Hands a parser's descriptors to a process. Returns whether there were any."""
        data, descriptors, _, _ = socket.recv_fds(self._control, 1, N_DESCRIPTORS)
        if not data:
            return False
        *of_parser, leash = descriptors
        pid, channel = self._spare or self._forked()
        self._spare = None
        with channel, suppress(OSError):  # it died: the closed connection tells it
            socket.send_fds(channel, [b"+"], of_parser)
        for mine in of_parser:
            os.close(mine)
        held = socket.socket(fileno=leash)
        pidfd = os.pidfd_open(pid)
        self._leashes[pid] = held, pidfd
        self._selector.register(held, selectors.EVENT_READ, pid)
        self._selector.register(pidfd, selectors.EVENT_READ, pid)
        return True

    def _reap(self, pid: int) -> None:
        leash, pidfd = self._leashes.pop(pid)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        with suppress(KeyError):
            self._selector.unregister(leash)
        with suppress(OSError), leash:
            leash.send(STATUS.pack(status))

    def kill_all(self) -> None:
        pids = [*self._leashes, *(() if self._spare is None else self._spare[:1])]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def command(descriptor: int, path: Sequence[str], start: str) -> tuple[str, str]:
    """The arguments of an interpreter that runs ``main`` and finds modules in the folders ``path``."""
    call = f"from {__name__} import main; main({descriptor}, {start!r})"
    return "-c", f"import sys; sys.path[:] = {list(path)!r}; {call}"
