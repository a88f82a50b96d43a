"""Connections that send half a header, or nothing, to a real server in a thread."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.app import create_app
from service.http.connections import Connections, limited_protocol
from service.http.logs import RateLimit
from tests.helpers.service import StubSource, settings

HALF = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "

# Answered once the body of 4 bytes has arrived.
HEAD = (
    b"POST /v1/impute/haplotypes HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Content-Type: application/json\r\nContent-Length: 4\r\n\r\n"
)


def implementations() -> list[Any]:
    found = [H11Protocol]
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

        found.append(HttpToolsProtocol)
    except ImportError:
        pass
    return found


@pytest.fixture(params=implementations())
def base(request: pytest.FixtureRequest) -> Any:
    return request.param


@contextmanager
def serving(
    folder: Path, base: Any, *, most: int = 100, header_seconds: float = 60.0
) -> Iterator[tuple[int, Connections]]:
    """The port of a server with these limits, and its connections."""
    connections = Connections(most, header_seconds)
    app = create_app(settings(folder), StubSource())
    config = uvicorn.Config(
        app, port=0, http=limited_protocol(connections, base), log_config=None, access_log=False, timeout_keep_alive=60
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield listening.getsockname()[1], connections
        finally:
            server.should_exit = True
            thread.join()


def connect(port: int, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(data)
    return connection


def was_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


def healthy(port: int) -> bool:
    return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


@pytest.mark.parametrize("sent", [b"", HALF])
def test_connection_without_a_whole_header_is_closed_in_time(tmp_path: Path, base: Any, sent: bytes) -> None:
    with serving(tmp_path, base, header_seconds=0.3) as (port, connections), connect(port, sent) as slow:
        assert was_closed(slow)
        assert connections.n_open == 0


def test_half_a_header_behind_an_answer_is_closed_in_time(tmp_path: Path, base: Any) -> None:
    whole = HALF + b"no\r\n\r\n"
    with serving(tmp_path, base, header_seconds=1) as (port, _), connect(port, whole) as slow:
        assert b"200 OK" in slow.recv(10_000)
        slow.sendall(HALF)
        slow.settimeout(20)
        while data := slow.recv(10_000):
            assert b"HTTP/1.1 4" not in data


def test_request_that_takes_longer_than_its_header_may_is_answered(tmp_path: Path, base: Any) -> None:
    with serving(tmp_path, base, header_seconds=0.2) as (port, _), connect(port, HEAD) as slow:
        for byte in b"body":
            time.sleep(0.2)
            slow.sendall(bytes([byte]))
        assert b"422" in slow.recv(10_000)


def test_half_sent_headers_lock_nobody_out(tmp_path: Path, base: Any) -> None:
    with serving(tmp_path, base, most=20) as (port, connections), ExitStack() as opened:
        slow = [opened.enter_context(connect(port, HALF)) for _ in range(60)]
        assert healthy(port)
        assert connections.n_open <= 20
        assert was_closed(slow[0])


def test_connection_beyond_the_limit_is_refused_while_all_have_requests(tmp_path: Path, base: Any) -> None:
    with serving(tmp_path, base, most=3) as (port, connections), ExitStack() as opened:
        busy = [opened.enter_context(connect(port, HEAD)) for _ in range(3)]
        while connections.n_open < 3 or connections.waiting_count:
            time.sleep(0.01)
        with connect(port) as refused:
            assert was_closed(refused)
        for connection in busy:
            connection.sendall(b"body")
            assert b"422" in connection.recv(10_000)


def test_repeated_lines_of_the_log_are_limited_and_counted() -> None:
    now = [100.0]
    limit = RateLimit(3, 10.0, clock=lambda: now[0])

    def passes(name: str, text: Any = "Invalid HTTP request received.") -> bool:
        record = logging.LogRecord(name, logging.WARNING, "", 0, text, None, None)
        passed = limit.filter(record)
        texts.append(record.getMessage())
        return passed

    texts: list[str] = []
    assert [passes("uvicorn.error") for _ in range(5)] == [True] * 3 + [False] * 2
    assert passes("asyncio")
    assert passes("uvicorn.error", "another")
    assert all(passes("service.jobs") for _ in range(9))
    now[0] += 10
    assert passes("uvicorn.error")
    assert "2 lines like this were dropped" in texts[-1]
