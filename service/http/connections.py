"""Limits of connections before a request has a header, and so a key: their number, and the time of a header.

uvicorn's `limit_concurrency` counts a connection once its header is there, and its keep-alive time ends with the first
byte. Connections that send half a header would stay for ever.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from typing import Any, Final

from uvicorn.protocols.http.auto import AutoHTTPProtocol

log = logging.getLogger(__name__)

# asyncio accepts as many connections in a row as may wait, before it looks at any of them.
BACKLOG: Final = 100
_OTHER_FILES: Final = 200 + BACKLOG  # descriptors for files, parser processes and connections just accepted


class Connections:
    """The open connections of one server, in its event loop.

    If there are ``most``, the oldest one without a whole header makes room for a new one. ``header_seconds``: in which
    a header must arrive. uvicorn closes an idle connection after a request earlier.
    """

    def __init__(self, most: int, header_seconds: float) -> None:
        self.header_seconds = header_seconds
        self.n_open = 0
        self._most = min(most, max(_file_limit() - _OTHER_FILES, 1))
        self._waiting: dict[asyncio.Transport, asyncio.TimerHandle] = {}

    @property
    def waiting_count(self) -> int:
        """Number of connections without a whole header."""
        return len(self._waiting)

    def opened(self, transport: asyncio.Transport) -> bool:
        """Counts a connection. Closes it and returns False if there is no room for it."""
        if self.n_open >= self._most:
            oldest = next((one for one in self._waiting if not one.is_closing()), None)
            if oldest is None:
                log.warning("a connection was refused: %d are open", self.n_open)
                transport.abort()
                return False
            self.has_header(oldest)
            oldest.abort()
        self.n_open += 1
        return True

    def closed(self) -> None:
        self.n_open -= 1

    def waits(self, transport: asyncio.Transport) -> None:
        """Closes the connection after ``header_seconds`` unless its header is whole by then."""
        if transport not in self._waiting:
            loop = asyncio.get_running_loop()
            self._waiting[transport] = loop.call_later(self.header_seconds, self._late, transport)

    def has_header(self, transport: asyncio.Transport) -> None:
        """The header is whole, or the connection is closed."""
        timer = self._waiting.pop(transport, None)
        if timer is not None:
            timer.cancel()

    def _late(self, transport: asyncio.Transport) -> None:
        del self._waiting[transport]
        transport.abort()


def limited_protocol(connections: Connections, base: Any = AutoHTTPProtocol) -> type[asyncio.Protocol]:
    """uvicorn's protocol ``base``, for h11 or httptools, within the limits of ``connections``."""

    class Limited(base):  # type: ignore[misc]
        _admitted = False

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._admitted = connections.opened(transport)
            if self._admitted:
                connections.waits(transport)

        def data_received(self, data: bytes) -> None:
            if not self._admitted:
                return
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                connections.has_header(self.transport)
            elif not self.transport.is_closing():
                connections.waits(self.transport)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._admitted:
                connections.closed()
                connections.has_header(self.transport)
            super().connection_lost(exc)

    return Limited


def raise_file_limit() -> None:
    """Lets this process open as many files as its hard limit allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _file_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
