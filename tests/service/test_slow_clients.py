"""Clients that are slow, leave in the middle, send the same twice or something else, against a real server."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import vcfbert.imputation.files  # noqa: F401 - torch takes seconds, which the first request would
from service.app import create_app
from tests.browser.servers import served
from tests.helpers.service import StubSource, settings
from tests.service.jobs.test_run import wait_for

BODY = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.vcf"\r\n\r\n' + b"0" * 200_000 + b"\r\n--x--\r\n"
)
LONG = 10_000_000  # bytes, more than the buffers between server and client hold
PATHS = ("/v1/impute", "/v1/qc", "/v1/jobs", "/v1/impute/haplotypes")


@contextmanager
def serving(folder: Path, **values: Any) -> Iterator[tuple[FastAPI, str]]:
    app = create_app(settings(folder, **values), StubSource())
    with served(app) as url:
        wait_for(lambda: app.state.manager.not_ready is None)
        yield app, url


def begin(
    url: str, path: str, content: bytes, *, length: int = len(BODY), receive_bytes: int | None = None
) -> socket.socket:
    """A request whose body has only begun. ``receive_bytes``: a smaller buffer for the answer than the system's."""
    host, _, port = url.removeprefix("http://").partition(":")
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    opened = socket.socket()
    opened.settimeout(20)
    if receive_bytes is not None:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)  # counts only before the connection
    opened.connect((host, int(port)))
    opened.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode() + content)
    return opened


def answer_of(opened: socket.socket) -> str:
    parts = []
    while part := opened.recv(65536):
        parts.append(part)
    return b"".join(parts).decode()


def left_behind(app: FastAPI) -> list[Path]:
    return [path for name in ("uploads", "jobs", "kept") for path in (app.state.settings.data / name).glob("*")]


def test_clients_that_stall_are_refused_and_hinder_nobody(tmp_path: Path) -> None:
    """One for each path, at the same time."""
    with serving(tmp_path, stall_seconds=4.0) as (app, url), ExitStack() as stack:
        stalled = [stack.enter_context(begin(url, path, BODY[:1000])) for path in PATHS]
        assert httpx.post(f"{url}/v1/impute", files={"file": ("b.vcf", b"1")}).status_code == 200
        for opened in stalled:
            opened.setblocking(False)
            with pytest.raises(BlockingIOError):  # it is still waited for
                opened.recv(1)
        for path, opened in zip(PATHS, stalled, strict=True):
            opened.settimeout(20)
            answer = answer_of(opened)
            assert answer.startswith("HTTP/1.1 408"), path
            assert '"code":"upload_stalled"' in answer
            assert '"hint"' in answer
        wait_for(lambda: app.state.drain.in_flight == 0)
        assert left_behind(app) == []


def test_a_client_that_is_slow_and_goes_on_is_answered(tmp_path: Path) -> None:
    """Longer than it may stall, in all."""
    with serving(tmp_path, stall_seconds=2.0) as (_, url), begin(url, "/v1/impute", b"") as slow:
        for start in range(0, len(BODY), len(BODY) // 5 + 1):
            time.sleep(0.5)
            slow.sendall(BODY[start : start + len(BODY) // 5 + 1])
        assert slow.recv(100).startswith(b"HTTP/1.1 200")


def test_an_answer_that_takes_longer_than_a_body_may_stall_comes(tmp_path: Path) -> None:
    with serving(tmp_path, stall_seconds=0.2) as (app, url):
        model = app.state.manager.get().model
        model.held = threading.Event()
        threading.Timer(0.8, model.held.set).start()
        assert httpx.post(f"{url}/v1/impute", files={"file": ("b.vcf", b"1")}, timeout=20).status_code == 200


def long_answer(url: str) -> socket.socket:
    """A connection whose answer has begun, too long for the buffers between server and client."""
    noise = os.urandom(LONG).replace(b"\r", b"0")  # the form's parser is slow where lines may end
    content = BODY.replace(b"0" * 200_000, noise)
    opened = begin(url, "/v1/impute", content, length=len(content), receive_bytes=1 << 20)
    assert opened.recv(100).startswith(b"HTTP/1.1 200")
    return opened


def test_a_client_that_reads_nothing_is_cut_and_frees_its_place(tmp_path: Path) -> None:
    with serving(tmp_path, stall_seconds=1.0, concurrent_per_key=1) as (app, url), long_answer(url) as opened:
        wait_for(lambda: app.state.drain.in_flight == 0)
        assert httpx.post(f"{url}/v1/impute", files={"file": ("b.vcf", b"1")}).status_code == 200
        received = 0
        while part := opened.recv(1 << 20):
            received += len(part)
        assert received < LONG


def test_a_client_that_leaves_while_it_reads_frees_its_place(tmp_path: Path) -> None:
    with serving(tmp_path, concurrent_per_key=1) as (app, url):
        long_answer(url).close()
        wait_for(lambda: app.state.drain.in_flight == 0)
        assert httpx.post(f"{url}/v1/impute", files={"file": ("b.vcf", b"1")}).status_code == 200
        assert left_behind(app) == []


def test_a_client_that_reads_slowly_receives_everything(tmp_path: Path) -> None:
    """Its answer takes longer in all than it may stall."""
    with serving(tmp_path, stall_seconds=1.5) as (_, url), long_answer(url) as opened:
        end, received = time.monotonic() + 3.0, 0
        while part := opened.recv(1 << 20):
            received += len(part)
            if time.monotonic() < end:
                time.sleep(0.2)
        assert received > 0.98 * LONG


@pytest.mark.parametrize("path", PATHS)
def test_a_cut_connection_leaves_nothing_and_frees_its_place(tmp_path: Path, path: str) -> None:
    with serving(tmp_path, concurrent_per_key=1) as (app, url):
        begin(url, path, BODY[: len(BODY) // 2]).close()
        wait_for(lambda: app.state.drain.in_flight == 0)
        assert httpx.post(f"{url}/v1/impute", files={"file": ("b.vcf", b"1")}).status_code == 200
        assert left_behind(app) == []


def test_a_client_that_leaves_while_it_is_imputed_frees_the_device(tmp_path: Path) -> None:
    with serving(tmp_path) as (app, url):
        model = app.state.manager.get().model
        model.held = threading.Event()
        opened = begin(url, "/v1/impute", BODY)
        assert model.begun.wait(10)
        opened.close()
        wait_for(lambda: app.state.drain.in_flight == 0)
        model.held = None
        assert httpx.post(f"{url}/v1/impute", files={"file": ("b.vcf", b"1")}).status_code == 200
        assert left_behind(app) == []


@pytest.mark.parametrize("path", PATHS[:3])
def test_two_files_in_one_request_are_refused(tmp_path: Path, path: str) -> None:
    with serving(tmp_path) as (app, url):
        files = [("file", ("a.vcf", b"1")), ("file", ("b.vcf", b"2"))]
        answer = httpx.post(url + path, files=files)
        assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
        assert "several files" in answer.json()["detail"]
        assert left_behind(app) == []


def test_the_same_upload_twice_is_two_jobs_of_their_own(tmp_path: Path) -> None:
    with serving(tmp_path) as (app, url):
        accepted = [httpx.post(f"{url}/v1/jobs", files={"file": ("a.vcf", b"1")}).json()["id"] for _ in range(2)]
        assert len(set(accepted)) == 2
        assert httpx.delete(f"{url}/v1/jobs/{accepted[0]}").status_code == 204
        assert app.state.jobs.files.target(accepted[1]).read_bytes() == b"1"


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/x-www-form-urlencoded", "image/png"])
@pytest.mark.parametrize("path", PATHS)
def test_another_type_of_content_is_refused(tmp_path: Path, path: str, kind: str) -> None:
    with serving(tmp_path) as (app, url):
        answer = httpx.post(url + path, content=b"##fileformat=VCFv4.2\n", headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
        assert answer.json()["hint"]
        assert left_behind(app) == []
