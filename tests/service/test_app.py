from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, UploadFile

from service.app import create_app
from service.http.draining import Drain
from tests.helpers.service import StubSource, call, settings, with_client
from vcfbert.errors import ArtifactError, DiskFullError, InputError, ResourceError


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    """The service with routes that fail in every way."""
    app = create_app(settings(tmp_path, max_upload_mb=1), StubSource())
    errors: dict[str, Exception] = {
        "input": InputError("not_vcf", "this is not a VCF", where="mine.vcf: line 1", hint="send a VCF"),
        "artifact": ArtifactError("bundle_hash", "index.faiss differs"),
        "resource": ResourceError("out_of_memory", "no memory is left"),
        "full": DiskFullError("disk_full", "it does not fit"),
        "enospc": OSError(errno.ENOSPC, "No space left on device"),
        "crash": ZeroDivisionError("NA12878"),
        "unsupported": HTTPException(415, "what is this?"),
    }

    @app.get("/v1/raise/{name}")
    def fail(name: str) -> None:
        raise errors[name]

    @app.post("/v1/upload")
    async def upload(file: UploadFile) -> int:
        return len(await file.read())

    return app


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("input", 422, "not_vcf"),
        ("artifact", 500, "bundle_hash"),
        ("resource", 503, "out_of_memory"),
        ("full", 507, "disk_full"),
        ("enospc", 507, "disk_full"),
        ("crash", 500, "internal"),
        ("unsupported", 415, "unsupported_type"),
    ],
)
def test_every_error_is_a_problem_with_a_stable_code_and_the_requests_id(
    app: FastAPI, name: str, status: int, code: str
) -> None:
    (answer,) = call(app, ("GET", f"/v1/raise/{name}", {"headers": {"X-Request-Id": "mine-1"}}))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"], body["request_id"]) == (status, code, "mine-1")
    assert answer.headers["x-request-id"] == "mine-1"
    assert "NA12878" not in answer.text
    assert "content-security-policy" in answer.headers


def test_the_librarys_error_is_told_whole(app: FastAPI) -> None:
    (answer,) = call(app, ("GET", "/v1/raise/input", {}))
    body = answer.json()
    assert body.pop("request_id") == answer.headers["x-request-id"]
    assert body == {
        "type": "about:blank",
        "title": "Unprocessable Entity",
        "status": 422,
        "code": "not_vcf",
        "detail": "this is not a VCF",
        "where": "mine.vcf: line 1",
        "hint": "send a VCF",
    }


def test_what_no_route_takes_is_a_problem_too(app: FastAPI) -> None:
    unknown, method, missing = call(
        app, ("GET", "/nothing", {}), ("PUT", "/v1/models", {}), ("POST", "/v1/upload", {"data": {"x": "1"}})
    )
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert (method.status_code, method.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in method.headers["allow"]
    assert (missing.status_code, missing.json()["code"]) == (422, "request_invalid")


@pytest.mark.parametrize("asked", ["", "a b", "x" * 65, "<script>"])
def test_a_request_id_that_could_do_harm_is_replaced(app: FastAPI, asked: str) -> None:
    (answer,) = call(app, ("GET", "/healthz", {"headers": {"X-Request-Id": asked}}))
    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])


def test_every_answer_has_the_security_headers(app: FastAPI) -> None:
    for answer in call(app, ("GET", "/healthz", {}), ("GET", "/", {}), ("GET", "/docs", {})):
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_documentation_fetches_nothing_from_elsewhere(app: FastAPI) -> None:
    docs, openapi = call(app, ("GET", "/docs", {}), ("GET", "/openapi.json", {}))
    assert "/v1/models/reload" in docs.text
    assert not re.search(r"(src|href)=\"?(https?:)?//|<script|<style|style=", docs.text)
    assert openapi.json()["info"]["title"] == "vcfbert"


def test_other_sites_pages_are_answered_only_where_they_are_named(tmp_path: Path) -> None:
    asked = {"Origin": "https://lab.example", "Access-Control-Request-Method": "GET"}
    request = ("OPTIONS", "/v1/models", {"headers": asked})
    (closed,) = call((settings(tmp_path, open=True), StubSource()), request)
    assert "access-control-allow-origin" not in closed.headers
    (opened,) = call((settings(tmp_path, open=True, cors_origins="https://lab.example"), StubSource()), request)
    assert opened.headers["access-control-allow-origin"] == "https://lab.example"


async def chunks(count: int) -> AsyncIterator[bytes]:
    """A multipart body of ``count`` pieces of 100 kB, of no announced length."""
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    for _ in range(count):
        yield b"x" * 100_000
    yield b"\r\n--b--\r\n"


@pytest.mark.parametrize(("count", "status"), [(9, 200), (11, 413)])
def test_the_size_limit_counts_bytes_that_were_not_announced(app: FastAPI, count: int, status: int) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    (answer,) = call(app, ("POST", "/v1/upload", {"content": chunks(count), "headers": headers}))
    assert answer.status_code == status
    if status == 413:
        assert answer.json()["code"] == "too_large"


def test_an_announced_length_over_the_limit_is_refused_at_once(app: FastAPI) -> None:
    files = {"file": ("f", b"x" * 1_100_000)}
    (answer,) = call(app, ("POST", "/v1/upload", {"files": files}))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_a_service_that_is_stopped_takes_nothing_new_and_says_so(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path), StubSource())

    async def use(client: httpx.AsyncClient) -> list[httpx.Response]:
        app.state.drain.draining = True
        return [await client.get("/readyz"), await client.get("/v1/models"), await client.get("/healthz")]

    ready, models, alive = with_client(app, use)
    assert (ready.status_code, ready.json()["code"]) == (503, "draining")
    assert (models.status_code, models.json()["code"]) == (503, "draining")
    assert "retry-after" in models.headers
    assert alive.status_code == 200


@pytest.mark.parametrize(("seconds", "leaves"), [(5.0, True), (0.1, False)])
def test_the_server_is_told_when_requests_are_answered_or_time_is_up(seconds: float, leaves: bool) -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(drain.in_flight))
    drain = Drain(seconds)

    async def run() -> None:
        with drain.signals(), drain.request():
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.1)
            assert drain.draining
            if leaves:
                assert told == []
                drain.in_flight -= 1
            while not told:
                await asyncio.sleep(0.01)
            drain.in_flight += leaves

    try:
        asyncio.run(asyncio.wait_for(run(), 4))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == [0 if leaves else 1]


SLOW = """
import asyncio, sys, uvicorn
from pathlib import Path
from service.app import create_app
from tests.helpers.service import StubSource, settings
app = create_app(settings(Path(sys.argv[1]), drain_seconds=10), StubSource())
@app.get("/v1/slow")
async def slow():
    await asyncio.sleep(1.0)
    return "done"
uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_sigterm_lets_a_request_finish_while_the_service_says_that_it_drains(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path), str(port)])
    answers: list[Any] = []
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            wait_until_ready(client, process)
            slow = threading.Thread(target=lambda: answers.append(httpx.get(f"http://127.0.0.1:{port}/v1/slow")))
            slow.start()
            time.sleep(0.3)
            process.terminate()
            time.sleep(0.2)
            assert client.get("/readyz").json()["code"] == "draining"
        slow.join()
        assert [answer.json() for answer in answers] == ["done"]
        process.wait(10)
    finally:
        process.kill()
        process.wait()


def wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the service ended"
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("the service did not become ready")


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "uvicorn", "service.app:app", "--host", "0.0.0.0", "--port", "0"),
        ("-m", "service"),
    ],
)
def test_a_service_without_keys_does_not_start_on_another_interface(tmp_path: Path, command: tuple[str, ...]) -> None:
    environment = {**os.environ, "VCFBERT_HOST": "0.0.0.0", "VCFBERT_DATA": str(tmp_path), "VCFBERT_PORT": "0"}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "open_service" in done.stderr
    assert "VCFBERT_API_KEYS" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("-m", "uvicorn", "service.app:app", "--port", "0"), ("-m", "service.worker")])
def test_a_service_without_its_job_table_does_not_start(tmp_path: Path, command: tuple[str, ...]) -> None:
    database = "postgresql+psycopg://u:secret@127.0.0.1:1/x"
    environment = {**os.environ, "VCFBERT_DATA": str(tmp_path), "VCFBERT_DATABASE_URL": database}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert "error [jobs_unreachable]" in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
